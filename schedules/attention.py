"""Attention on CPUs: both products and the softmax between them in one kernel, see `attention_loops`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tvm import te

from edgeir.errors import EdgeIRError
from edgeir.schedules.attention_formulas import stage_formulas
from edgeir.schedules.attention_loops import AttentionLoops, AttentionTile, workspace_of
from edgeir.schedules.attention_problem import Attention
from edgeir.schedules.conv_stages import check_config
from edgeir.schedules.loops import worth_threads
from edgeir.schedules.register_tile import registers_needed, step_cycles
from edgeir.schedules.sparse_epilogue import with_loops
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.schedules.vector_math import vectorizable_math
from edgeir.targets.target import Target

_MAX_VECTORS = 8


class AttentionTemplate:
    """softmax(q·kᵀ …)·v in float32, queries in blocks."""

    name = "attention"

    def match(self, task: Task, target: Target) -> bool:
        """Whether the task is an attention whose keys and columns fill a vector."""
        problem, lanes = task.attention, target.lanes()
        return (
            target.kind == "llvm" and problem is not None and lanes >= 4 and min(problem.keys, problem.columns) >= lanes
        )

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """Queries of a block, both register tiles, and whether keys and values are copied together."""
        problem, lanes = _problem(task), target.lanes()
        rows = tuple(range(1, min(problem.queries, target.vector_registers - 2) + 1))
        return {
            "block": _blocks(problem),
            "score_rows": rows,
            "score_vectors": tuple(range(1, min(problem.keys // lanes, _MAX_VECTORS) + 1)),
            "value_rows": rows,
            "value_vectors": tuple(range(1, min(problem.columns // lanes, _MAX_VECTORS) + 1)),
            "pack_keys": (True, False),
            "pack_values": (True, False),
        }

    def default(self, task: Task, target: Target) -> Config:
        """Tiles with the fewest cycles, and blocks whose scores fit the caches."""
        problem = _problem(task)
        block = _best_block(problem, target)
        score, value = (_best_tile(block, columns, target) for columns in (problem.keys, problem.columns))
        return {
            "block": block,
            "score_rows": score[0],
            "score_vectors": score[1],
            "value_rows": value[0],
            "value_vectors": value[1],
            "pack_keys": False,
            "pack_values": False,
        }

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The kernel. What cannot be read in vectors where it lies is copied together all the same.

        Raises:
            EdgeIRError: for a config outside `space`.
        """
        check_config(self.name, config, self.space(task, target))
        problem, lanes = _problem(task), target.lanes()
        stages = problem.build()
        func: Any = te.create_prim_func([*stages.placeholders, *stages.outputs]).with_attr("global_symbol", task.name)
        parameters = list(func.params)
        formulas = stage_formulas(stages, parameters)
        axis = len(problem.batch)
        pack_keys = bool(config["pack_keys"]) or not formulas["key"].in_place(axis)
        pack_values = bool(config["pack_values"]) or not formulas["value"].in_place(axis + 1)
        block = int(config["block"])
        cycles = _cycles(problem, target)
        parallel = worth_threads(cycles, target)
        tile = AttentionTile(
            block,
            min(block, int(config["score_rows"])),
            int(config["score_vectors"]),
            min(block, int(config["value_rows"])),
            int(config["value_vectors"]),
            pack_keys,
            pack_values,
            _pieces(problem, block, target)[1] if parallel else 1,
            parallel,
        )
        loops = AttentionLoops(problem, tile, lanes, formulas, parameters[-1])
        threads = target.cores if parallel else 1
        func = vectorizable_math(with_loops(func, loops.emit))
        return Kernel(func, workspace_bytes=threads * workspace_of(problem, tile, lanes))


def _problem(task: Task) -> Attention:
    if task.attention is None:
        raise EdgeIRError("not an attention", where=task.name, got=task.anchor)
    return task.attention


def _blocks(problem: Attention) -> tuple[int, ...]:
    """The queries cut into equal blocks, in all the ways that give different sizes."""
    return tuple(sorted({-(-problem.queries // count) for count in range(1, problem.queries + 1)}))


def _best_block(problem: Attention, target: Target) -> int:
    """The largest block whose scores fill half of the first-level cache, or a quarter of the second.

    Where threads share the work, a smaller one if that keeps them all busy.
    """
    room = max(target.l1_bytes // 2, target.l2_bytes // 4)
    most = max(1, room // (4 * problem.keys))
    sizes = [size for size in _blocks(problem) if size <= most] or [1]
    if not worth_threads(_cycles(problem, target), target):
        return sizes[-1]
    return min(sizes, key=lambda size: (_pieces(problem, size, target)[0], -size))


def _best_tile(rows: int, columns: int, target: Target) -> tuple[int, int]:
    """Rows and vectors of the register tile with the fewest cycles for all tiles of a block."""
    lanes = target.lanes()
    best, best_key = (1, 1), (math.inf, 0)
    for vectors in range(1, min(columns // lanes, _MAX_VECTORS) + 1):
        for height in range(1, min(rows, target.vector_registers) + 1):
            if registers_needed(height, vectors, target) > target.vector_registers:
                break
            tiles = -(-rows // height) * -(-columns // (vectors * lanes))
            key = (tiles * step_cycles(height, vectors, target), -height * vectors)
            if key < best_key:
                best, best_key = (height, vectors), key
    return best


def _cycles(problem: Attention, target: Target) -> float:
    """Rough cycles on one core."""
    products = problem.queries * problem.keys * (problem.depth + problem.columns)
    return math.prod(problem.batch) * products / target.lanes()


def _block_cycles(problem: Attention, block: int, target: Target) -> float:
    """Cycles of a block of queries: both products, and reading keys and values."""
    lanes, cycles = target.lanes(), 0.0
    for columns, depth in ((problem.keys, problem.depth), (problem.columns, problem.keys)):
        rows, vectors = _best_tile(block, columns, target)
        cycles += -(-block // rows) * -(-columns // (vectors * lanes)) * depth * step_cycles(rows, vectors, target)
    # Every block reads all keys and values once from the second-level cache, about half a vector in a cycle.
    return cycles + 2 * problem.keys * (problem.depth + problem.columns) / lanes


def _pieces(problem: Attention, block: int, target: Target) -> tuple[int, int]:
    """Cycles until the last core is done, and parts of one matrix's queries with which they are fewest."""
    blocks, cycles = -(-problem.queries // block), _block_cycles(problem, block, target)
    # Each part packs the keys again.
    packing = 2 * problem.keys * problem.depth / target.lanes()

    def length(pieces: int) -> int:
        shares = -(-math.prod(problem.batch) * pieces // target.cores)
        return round(shares * (-(-blocks // pieces) * cycles + packing))

    return min((length(pieces), pieces) for pieces in range(1, min(blocks, target.cores) + 1))
