"""The copies of their input that integer convolutions make: a border of the zero point, channels interleaved."""

from __future__ import annotations

from edgeir.schedules.conv_problem import ConvProblem
from edgeir.schedules.conv_stages import (
    PAD,
    TirSchedule,
    block_name,
    producers_of_accumulation,
    schedule_elementwise,
)
from edgeir.schedules.integer_decoding import DECODED
from edgeir.schedules.integer_stages import channel_part


def schedule_input(schedule: TirSchedule, problem: ConvProblem) -> None:
    """Schedules the stages before the sums: blocked copies as vectors, plain ones as interleaved stores."""
    for block in producers_of_accumulation(schedule):
        loops = schedule.get_loops(block)
        if not loops or block_name(schedule, block) == DECODED:
            continue
        if block_name(schedule, block) != PAD or problem.in_block:
            schedule_elementwise(schedule, loops, parallel=True)
            continue
        # LLVM makes vectors of a loop that stores whole quads side by side.
        n, k, h, w, i = loops
        schedule.parallel(schedule.fuse(n, k, h))
        schedule.unroll(i)
        schedule.annotate(w, "pragma_loop_partition_hint", 1)


def input_workspace_bytes(problem: ConvProblem) -> int:
    """Bytes of the copied input; 0 where it is read in place."""
    if problem.in_block and not problem.padded:
        return 0
    block = problem.in_block or channel_part(problem)
    pixels = problem.padded_extent(0) * problem.padded_extent(1)
    return problem.batch * -(-problem.in_channels // block) * block * pixels
