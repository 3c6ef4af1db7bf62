"""Integer convolutions and matrix products on a GPU's tensor cores, summed in 32 bits.

shared left, right              ←  words of four bytes along K, 16 rows (columns) of four words after each other
fragments of each warp          ←  16×16 bytes of both; accumulator[m, n] += left[k, m] · right[k, n]
shared product[m, n]            ←  accumulators, 16×16 numbers after each other
result                          ←  epilogue(product), by all threads of the block
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tvm import te, tirx

from edgeir.schedules import wmma_integer_intrinsics as wmma
from edgeir.schedules.fallback import plain_function
from edgeir.schedules.gpu_bit_casts import with_bit_casts
from edgeir.schedules.gpu_gemm import LEFT, PRODUCT, RESULT, RIGHT, Gemm, knob_values, staged_product
from edgeir.schedules.gpu_integer import product_gemm
from edgeir.schedules.gpu_integer_product import ByteProduct, byte_product, required_product
from edgeir.schedules.gpu_integer_words import BYTES, with_instructions, word
from edgeir.schedules.gpu_stages import bind_stages, gpu_of, schedule_for_gpu
from edgeir.schedules.gpu_tensor_core import LEAST_SIDE, check_block, largest_tile, tile_sizes
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.schedules.tir_types import AnySchedule, AnyTensor, Expression
from edgeir.schedules.wmma_intrinsics import SIDE
from edgeir.schedules.workspace import workspace_bytes
from edgeir.targets.target import Target

KNOBS: dict[str, tuple[int, ...]] = {
    "warps_m": (1, 2, 4),
    "warps_n": (1, 2, 4),
    "fragments_m": (1, 2, 4),
    "fragments_n": (1, 2, 4),
    "depth": (16, 32, 64, 128),
}
"""Warps of a block along rows and columns, 16×16 sums of each warp along both, bytes along K of the shared tiles."""

LEFT_BYTES, RIGHT_BYTES = "gemm_left_bytes", "gemm_right_bytes"


class _OnTensorCores:
    """What convolutions and products share."""

    name = "gpu_integer_tensor_core"
    anchor = ""

    def match(self, task: Task, target: Target) -> bool:
        """Whether the target has tensor cores for bytes and the task, of one signedness, fills half of a fragment."""
        if target.kind != "cuda" or "int8" not in gpu_of(target).tensor_cores or task.anchor != self.anchor:
            return False
        product = byte_product(task)
        return (
            product is not None
            and product.left_dtype == product.right_dtype
            and min(product.rows, product.columns) >= LEAST_SIDE
            and product.depth >= SIDE
        )

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """Warps, fragments and depth."""
        return KNOBS

    def default(self, task: Task, target: Target) -> Config:
        """The largest tile of results that still gives every processor two blocks."""
        product = required_product(task)
        # Two fragments along K take as many words as one of float16, where 32 elements are enough.
        depth = next((d for d in (64, 32) if product.depth > d // 2), SIDE)
        return {**largest_tile(product_gemm(product), target), "depth": depth}

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The scheduled kernel, its constant weight packed into fragments.

        Raises:
            EdgeIRError: for a config that is not one of the space, or whose block is too large for the target.
        """
        knobs, product = _checked(config, self.name, target), required_product(task)
        stages = _Fragments(product, knobs)
        weight = product.weight
        packed = {} if weight is None else {weight.operand: stages.packed_shape}
        wmma.register(product.left_dtype)
        gemm = replace(product_gemm(product), fragment=SIDE)
        try:
            schedule, final, others = staged_product(
                task, gemm, lambda inputs: stages.tensor(gemm, inputs), packed, (LEFT_BYTES, RIGHT_BYTES)
            )
            _tile(schedule, final, product, knobs, gpu_of(target).warp)
            bind_stages(schedule, target, others)
            func = with_bit_casts(with_instructions(schedule.mod["main"]), target)
        except Exception:  # an epilogue that does not fit: every schedule primitive raises its own types
            func = schedule_for_gpu(plain_function(task), target)
            return Kernel(func, workspace_bytes=workspace_bytes(func))
        pack = {} if weight is None else {weight.operand: stages.pack}
        return Kernel(func, pack, workspace_bytes(func))


class TensorCoreIntegerMatmul(_OnTensorCores):
    """Matrix products of bytes, batched or not."""

    name = "gpu_integer_tensor_core_matmul"
    anchor = "matmul_integer"


class TensorCoreIntegerConv(_OnTensorCores):
    """Convolutions of bytes in plain layouts with more than a few channels on both sides."""

    name = "gpu_integer_tensor_core_conv"
    anchor = "conv_integer"


def _checked(config: Config, template: str, target: Target) -> dict[str, int]:
    knobs = knob_values(config, KNOBS, template)
    tile_m, tile_n = tile_sizes(knobs)
    check_block(knobs, knobs["depth"] * (tile_m + tile_n) + 4 * tile_m * tile_n, template, target)
    return knobs


class _Fragments:
    """A product laid out in 16×16 squares, every size rounded up to whole tiles."""

    def __init__(self, product: ByteProduct, knobs: Mapping[str, int]) -> None:
        tile_m, tile_n = tile_sizes(knobs)
        self.product = product
        self.rows = math.ceil(product.rows / tile_m) * tile_m // SIDE
        self.columns = math.ceil(product.columns / tile_n) * tile_n // SIDE
        self.depth = math.ceil(product.words * BYTES / knobs["depth"]) * knobs["depth"] // SIDE

    @property
    def packed_shape(self) -> tuple[int, ...]:
        """(groups, squares along the side, squares along K, 16, 16) of the packed weight."""
        weight = self.product.weight
        assert weight is not None
        return weight.shape[0], self.rows if weight.left else self.columns, self.depth, SIDE, SIDE

    def pack(self, array: np.ndarray) -> np.ndarray:
        """The weight as `packed_shape`, zeros where a square is not full."""
        weight = self.product.weight
        assert weight is not None
        words = weight.pack(array)
        groups, squares, depth, *_ = self.packed_shape
        full = np.zeros((groups, depth * wmma.WORDS, squares * SIDE, BYTES), words.dtype)
        full[:, : words.shape[1], : words.shape[2]] = words
        split = full.reshape(groups, depth, wmma.WORDS, squares, SIDE, BYTES)
        return np.ascontiguousarray(split.transpose(0, 3, 1, 4, 2, 5)).reshape(self.packed_shape)

    def tensor(self, gemm: Gemm, inputs: Sequence[te.Tensor]) -> te.Tensor:
        """The product as TE stages."""
        product, zero = self.product, tirx.const(0, "int32")
        weight = product.weight

        def words(name: str, squares: int, size: int, element: Callable[..., Expression], packed: bool) -> AnyTensor:
            def one(g: Expression, s: Expression, d: Expression, i: Expression, w: Expression) -> Expression:
                if packed and weight is not None:
                    source = inputs[1]
                    return word([source(weight.group(g), s, d, i, w * BYTES + q) for q in range(BYTES)])
                at, j = s * SIDE + i, d * wmma.WORDS + w
                inside = [at < size] if squares * SIDE > size else []
                inside += [j < product.words] if self.depth * wmma.WORDS > product.words else []
                value = element(inputs, g, at, j)
                return tirx.if_then_else(tirx.all(*inside), value, zero) if inside else value

            return te.compute((product.groups, squares, self.depth, SIDE, wmma.WORDS), one, name=name)

        def bytes_of(name: str, source: AnyTensor, squares: int) -> AnyTensor:
            def one(g: Expression, d: Expression, s: Expression, k: Expression, i: Expression) -> Expression:
                return (source[g, s, d, i, k // BYTES] >> (k % BYTES * 8)).astype(product.left_dtype)

            return te.compute((product.groups, self.depth, squares, SIDE, SIDE), one, name=name)

        constant = weight is not None
        left = words(LEFT, self.rows, product.rows, product.left, constant and weight.left)
        right = words(RIGHT, self.columns, product.columns, product.right, constant and not weight.left)
        a, b = bytes_of(LEFT_BYTES, left, self.rows), bytes_of(RIGHT_BYTES, right, self.columns)
        d, k = te.reduce_axis((0, self.depth), name="d"), te.reduce_axis((0, SIDE), name="k")
        total: AnyTensor = te.compute(
            (product.groups, self.rows, self.columns, SIDE, SIDE),
            lambda g, m, n, i, j: te.sum(a[g, d, m, k, i].astype("int32") * b[g, d, n, k, j].astype("int32"), [d, k]),
            name=PRODUCT,
        )
        result: AnyTensor = te.compute(
            gemm.out_shape, lambda *index: total(*gemm.product_index(*gemm.position(index))), name=RESULT
        )
        return result


def _tile(schedule: AnySchedule, final: str, product: ByteProduct, knobs: Mapping[str, int], warp: int) -> None:
    output, sums = schedule.get_sblock(final), schedule.get_sblock(PRODUCT)
    tile_m, tile_n = tile_sizes(knobs)
    warps, dtype = knobs["warps_m"] * knobs["warps_n"], product.left_dtype
    *group, row, column = schedule.get_loops(output)
    rows, columns = schedule.split(row, factors=[None, tile_m]), schedule.split(column, factors=[None, tile_n])
    schedule.reorder(*group, rows[0], columns[0], rows[1], columns[1])
    block = schedule.fuse(*group, rows[0], columns[0])
    schedule.bind(block, "blockIdx.x")
    _spread(schedule, schedule.fuse(rows[1], columns[1]), warps, warp)

    stored = schedule.cache_write(sums, 0, "wmma.accumulator")  # copies the accumulators into PRODUCT
    schedule.set_scope(stored, 0, "shared")
    schedule.compute_at(stored, block, preserve_unit_loops=True)
    m, n, *square = schedule.get_loops(stored)[-4:]
    warps_m, fragments_m = schedule.split(m, factors=[knobs["warps_m"], knobs["fragments_m"]])
    warps_n, fragments_n = schedule.split(n, factors=[knobs["warps_n"], knobs["fragments_n"]])
    schedule.reorder(warps_m, warps_n, fragments_m, fragments_n, *square)
    own_warp = schedule.fuse(warps_m, warps_n)
    schedule.bind(own_warp, "threadIdx.y")
    schedule.compute_at(sums, own_warp, preserve_unit_loops=True)
    m, n, i, j, d, k = schedule.get_loops(sums)[-6:]
    steps = schedule.split(d, factors=[None, knobs["depth"] // SIDE])
    schedule.reorder(*steps, m, n, i, j, k)

    for name, source, scope, load in (
        (LEFT_BYTES, LEFT, "wmma.matrix_a", "load_left"),
        (RIGHT_BYTES, RIGHT, "wmma.matrix_b", "load_right"),
    ):
        fragment, tile = schedule.get_sblock(name), schedule.get_sblock(source)
        schedule.set_scope(fragment, 0, scope)
        schedule.compute_at(fragment, steps[1], preserve_unit_loops=True)
        schedule.set_scope(tile, 0, "shared")
        schedule.compute_at(tile, steps[0], preserve_unit_loops=True)
        _fetch(schedule, tile, product, source == LEFT, warps, warp)
        schedule.tensorize(schedule.get_loops(fragment)[-2], wmma.name(load, dtype))
    first = schedule.decompose_reduction(sums, steps[0])
    schedule.tensorize(schedule.get_loops(first)[-2], wmma.name("fill", dtype))
    schedule.tensorize(i, wmma.name("multiply", dtype))
    schedule.tensorize(schedule.get_loops(stored)[-2], wmma.name("store", dtype))


def _fetch(schedule: AnySchedule, tile: Any, product: ByteProduct, left: bool, warps: int, warp: int) -> None:
    """Shares the words of an operand's tile among threads, so that neighbours read neighbours from memory."""
    squares, depth, side, words = schedule.get_loops(tile)[-4:]
    weight = product.weight
    if weight is None or weight.left != left:  # a packed weight lies as its tile does
        if (LEFT if left else RIGHT) in product.along_depth:
            schedule.reorder(squares, side, depth, words)
        else:
            schedule.reorder(depth, words, squares, side)
    _spread(schedule, schedule.fuse(*schedule.get_loops(tile)[-4:]), warps, warp)


def _spread(schedule: AnySchedule, loop: Any, warps: int, warp: int) -> None:
    """Binds a loop to all threads of the block: neighbouring threads take neighbouring iterations."""
    _, y, x = schedule.split(loop, factors=[None, warps, warp])
    schedule.bind(y, "threadIdx.y")
    schedule.bind(x, "threadIdx.x")
