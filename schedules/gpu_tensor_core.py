"""float16 matrix products and convolutions on a GPU's tensor cores, summed in float32.

shared left[k, m], right[k, n]  ←  operand elements, zero beyond the matrices
fragments of each warp          ←  16×16 parts of both; accumulator[m, n] += left[k, m] · right[k, n]
shared product[m, n]            ←  accumulators
result                          ←  epilogue(product), by all threads of the block
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edgeir.errors import EdgeIRError
from edgeir.schedules import wmma_intrinsics as wmma
from edgeir.schedules.fallback import plain_function
from edgeir.schedules.gpu_bit_casts import with_bit_casts
from edgeir.schedules.gpu_conv import GpuConv
from edgeir.schedules.gpu_gemm import LEFT, PRODUCT, RIGHT, Gemm, knob_values, staged_gemm
from edgeir.schedules.gpu_matmul import GpuGemmTemplate, GpuMatmul
from edgeir.schedules.gpu_stages import bind_stages, gpu_of, schedule_for_gpu
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.schedules.tir_types import AnyFunc, AnySchedule
from edgeir.schedules.workspace import workspace_bytes
from edgeir.targets.target import Target

KNOBS: dict[str, tuple[int, ...]] = {
    "warps_m": (1, 2, 4),
    "warps_n": (1, 2, 4),
    "fragments_m": (1, 2, 4),
    "fragments_n": (1, 2, 4),
    "depth": (16, 32, 64),
}
"""Warps of a block along rows and columns, 16×16 accumulators of each warp along both, depth of the shared tiles."""

LEAST_SIDE = 8
"""Half a fragment: with fewer rows or columns most of what a tensor core multiplies is padding."""

# float16 elements of padding after a row of a shared tile, so that rows start in different banks; `load_matrix_sync`
# wants rows of a multiple of 8 elements.
_ROW_PADDING = 8


class _OnTensorCores(GpuGemmTemplate):
    """What products on tensor cores share."""

    def match(self, task: Task, target: Target) -> bool:
        """Whether the target has tensor cores for float16 and the task fills at least half of a fragment."""
        if target.kind != "cuda" or "float16" not in gpu_of(target).tensor_cores:
            return False
        gemm = self.gemm(task)
        return (
            gemm is not None
            and gemm.dtype == "float16"
            and min(gemm.rows, gemm.columns) >= LEAST_SIDE
            and gemm.depth >= wmma.SIDE
        )

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """Warps, fragments and depth."""
        return KNOBS

    def default(self, task: Task, target: Target) -> Config:
        """The largest tile of results that still gives every processor two blocks."""
        gemm = self.gemm(task)
        assert gemm is not None
        config = largest_tile(gemm, target)
        wide = gemm.depth > wmma.SIDE and not _reuses_memory({**config, "depth": 32})
        return {**config, "depth": 32 if wide else 16}

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The scheduled kernel.

        Raises:
            EdgeIRError: for a config that is not one of the space, or whose block is too large for the target.
        """
        knobs = _checked(config, self.name, target)
        gemm = self.gemm(task)
        assert gemm is not None
        try:
            func = _scheduled(task, gemm, knobs, target)
        except Exception:  # an epilogue that does not fit: every schedule primitive raises its own types
            func = schedule_for_gpu(plain_function(task), target)
        return Kernel(func, workspace_bytes=workspace_bytes(func))


class TensorCoreMatmul(_OnTensorCores, GpuMatmul):
    """float16 matrix products, batched or not."""

    name = "gpu_tensor_core_matmul"


class TensorCoreConv(_OnTensorCores, GpuConv):
    """float16 convolutions of plain layouts with more than a few channels on both sides."""

    name = "gpu_tensor_core_conv"


def tile_sizes(knobs: Mapping[str, int]) -> tuple[int, int]:
    """Rows and columns of a block's tile of results."""
    return (
        knobs["warps_m"] * knobs["fragments_m"] * wmma.SIDE,
        knobs["warps_n"] * knobs["fragments_n"] * wmma.SIDE,
    )


def largest_tile(gemm: Gemm, target: Target) -> dict[str, int]:
    """Warps and fragments of the largest tile of results that still gives every processor two blocks."""
    wanted = 2 * gpu_of(target).processors
    choices: list[dict[str, int]] = [
        dict(zip(("warps_m", "warps_n", "fragments_m", "fragments_n"), numbers, strict=True))
        for numbers in ((2, 2, 2, 2), (2, 2, 1, 2), (2, 2, 1, 1), (1, 2, 1, 1), (1, 1, 1, 1))
    ]

    def blocks(choice: dict[str, int]) -> int:
        tile_m, tile_n = tile_sizes(choice)
        return gemm.groups * math.ceil(gemm.rows / tile_m) * math.ceil(gemm.columns / tile_n)

    return next((choice for choice in choices if blocks(choice) >= wanted), choices[-1])


def check_block(knobs: Mapping[str, int], shared_bytes: int, template: str, target: Target) -> None:
    """Checks what a block of threads needs.

    Raises:
        EdgeIRError: more shared memory or threads than the target has.
    """
    gpu = gpu_of(target)
    if shared_bytes > gpu.shared_bytes:
        raise EdgeIRError(
            "too much shared memory", where=template, expected=f"at most {gpu.shared_bytes} bytes", got=shared_bytes
        )
    threads = gpu.warp * knobs["warps_m"] * knobs["warps_n"]
    if threads > gpu.max_threads:
        raise EdgeIRError("too many threads", where=template, expected=f"at most {gpu.max_threads}", got=threads)


def _reuses_memory(knobs: Mapping[str, int]) -> bool:
    """Whether TVM puts the float32 product where a larger float16 tile was, and then refuses a pointer into it."""
    tile_m, tile_n = tile_sizes(knobs)
    return 2 * knobs["depth"] * (max(tile_m, tile_n) + _ROW_PADDING) >= 4 * tile_m * tile_n


def _checked(config: Config, template: str, target: Target) -> dict[str, int]:
    knobs = knob_values(config, KNOBS, template)
    tile_m, tile_n = tile_sizes(knobs)
    operands = 2 * knobs["depth"] * (tile_m + tile_n + 2 * _ROW_PADDING)
    check_block(knobs, operands + 4 * tile_m * tile_n, template, target)
    if _reuses_memory(knobs):
        raise EdgeIRError(
            "too deep a tile", where=template, expected="tiles of operands smaller than that of the product", got=knobs
        )
    return knobs


def _scheduled(task: Task, gemm: Gemm, knobs: Mapping[str, int], target: Target) -> AnyFunc:
    """The task as one tiled kernel, with kernels before and after it for stages that do not fit into it.

    Raises:
        Exception: whatever TVM raises where a transformation does not apply.
    """
    wmma.register()
    schedule, final, others = staged_gemm(task, gemm, *tile_sizes(knobs), knobs["depth"])
    _tile(schedule, final, knobs, gpu_of(target).warp)
    bind_stages(schedule, target, others)
    return with_bit_casts(schedule.mod["main"], target)


def _tile(schedule: AnySchedule, final: str, knobs: Mapping[str, int], warp: int) -> None:
    output, product = schedule.get_sblock(final), schedule.get_sblock(PRODUCT)
    tile_m, tile_n = tile_sizes(knobs)
    warps = knobs["warps_m"] * knobs["warps_n"]
    *group, row, column = schedule.get_loops(output)
    rows, columns = schedule.split(row, factors=[None, tile_m]), schedule.split(column, factors=[None, tile_n])
    schedule.reorder(*group, rows[0], columns[0], rows[1], columns[1])
    block = schedule.fuse(*group, rows[0], columns[0])
    schedule.bind(block, "blockIdx.x")
    _spread(schedule, schedule.fuse(rows[1], columns[1]), warps, warp)

    stored = schedule.cache_write(product, 0, "wmma.accumulator")  # copies the accumulators into PRODUCT
    schedule.set_scope(stored, 0, "shared")
    schedule.compute_at(stored, block)
    outer, inner = _in_fragments(schedule, schedule.get_loops(stored)[-2:])
    warps_m, fragments_m = schedule.split(outer[0], factors=[knobs["warps_m"], knobs["fragments_m"]])
    warps_n, fragments_n = schedule.split(outer[1], factors=[knobs["warps_n"], knobs["fragments_n"]])
    schedule.reorder(warps_m, warps_n, fragments_m, fragments_n, *inner)
    own_warp = schedule.fuse(warps_m, warps_n)
    schedule.bind(own_warp, "threadIdx.y")
    schedule.compute_at(product, own_warp)
    outer, inner = _in_fragments(schedule, schedule.get_loops(product)[-3:])
    steps = schedule.split(outer[2], factors=[None, knobs["depth"] // wmma.SIDE])
    schedule.reorder(*steps, *outer[:2], *inner)

    fragments = []
    for operand, name, scope in ((0, LEFT, "wmma.matrix_a"), (1, RIGHT, "wmma.matrix_b")):
        fragment = schedule.cache_read(product, operand, scope)
        schedule.compute_at(fragment, steps[1])
        loops, within = _in_fragments(schedule, schedule.get_loops(fragment)[-2:])
        schedule.reorder(*loops, *within)
        fragments.append(within[0])
        tile = schedule.get_sblock(name)
        schedule.set_scope(tile, 0, "shared")
        schedule.compute_at(tile, steps[0])
        depth, side = schedule.get_loops(tile)[-2:]
        if name == LEFT:
            schedule.reorder(side, depth)  # neighbouring threads read along a row of the left matrix
        _spread(schedule, schedule.fuse(*schedule.get_loops(tile)[-2:]), warps, warp)
        schedule.storage_align(tile, 0, -2, 16, _ROW_PADDING)
    first = schedule.decompose_reduction(product, steps[0])
    schedule.tensorize(schedule.get_loops(first)[-2], wmma.FILL)
    schedule.tensorize(fragments[0], wmma.LOAD_LEFT)
    schedule.tensorize(fragments[1], wmma.LOAD_RIGHT)
    schedule.tensorize(inner[0], wmma.MULTIPLY)
    schedule.tensorize(schedule.get_loops(stored)[-2], wmma.STORE)


def _spread(schedule: AnySchedule, loop: object, warps: int, warp: int) -> None:
    """Binds a loop to all threads of the block: neighbouring threads take neighbouring iterations."""
    _, y, x = schedule.split(loop, factors=[None, warps, warp])
    schedule.bind(y, "threadIdx.y")
    schedule.bind(x, "threadIdx.x")


def _in_fragments(schedule: AnySchedule, loops: Sequence[object]) -> tuple[list[object], list[object]]:
    """The loops split by the side of a fragment: those over fragments, and those within one."""
    pairs = [schedule.split(loop, factors=[None, wmma.SIDE]) for loop in loops]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]
