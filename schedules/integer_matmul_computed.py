"""Matrix product of two computed operands of bytes, as in attention: QKᵀ and PV.

    Σ (a − za)(b − zb) = Σ a·b − zb·Σ a − za·Σ b + K·za·zb

A panel of the right operand is packed into quads of K when its columns are computed, and then used by all tiles of rows
(`integer_matmul`). Where the machine's inner product wants the other signedness, bytes are moved by 128, which turns
their upper bit, and zero points with them. Sums of rows and columns are only computed for zero points that are not 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tvm import te, tirx

from edgeir.schedules.dot_intrinsics import QUAD, DotProduct, dot_product
from edgeir.schedules.integer_matmul import LEFT, choose_tile, dot_sums
from edgeir.schedules.matmul_problem import MatmulProblem, product_sizes, required_problem
from edgeir.schedules.matmul_tile import ACCUMULATOR, PANELS, MatmulTile, Sums, schedule_matmul, tile_space
from edgeir.schedules.task import Integers, Kernel, Task, ZeroInput
from edgeir.schedules.template import Config
from edgeir.schedules.tir_types import AnySchedule, AnyTensor
from edgeir.schedules.workspace import workspace_bytes
from edgeir.targets.target import Target

_ROWS, _COLUMNS = f"{ACCUMULATOR}_of_rows", f"{ACCUMULATOR}_of_columns"
"""Sums that `schedule_matmul` leaves alone, as it does what it makes of `ACCUMULATOR`."""
_HALF = 128
_ANY = Integers(left_zero=0, pairs_fit=False, symmetric=False)
"""Nothing is known of operands that are computed."""


@dataclass(frozen=True)
class _Operand:
    """An operand as it is multiplied.

    Attributes:
        dtype: its element type.
        wanted: the element type that the inner product wants.
        zero: the zero point of what is multiplied, or None where it is computed.
        input: which of the anchor's inputs a computed zero point is.
    """

    dtype: str
    wanted: str
    zero: int | None
    input: int | None

    @property
    def moved(self) -> bool:
        return self.dtype != self.wanted

    @property
    def shift(self) -> int:
        """What the wanted number is beyond the given one."""
        return 0 if not self.moved else _HALF if self.wanted == "uint8" else -_HALF

    def zero_point(self, inputs: Sequence[AnyTensor]) -> Any:
        """The zero point of what is multiplied, in 32 bits."""
        if self.zero is not None:
            return tirx.const(self.zero, "int32")
        assert self.input is not None
        value: Any = inputs[self.input]()
        return value.astype("int32") + tirx.const(self.shift, "int32")


class IntegerMatmulComputed:
    """`matmul_integer` of two computed operands with scalar zero points, on machines with an inner product."""

    name = "integer-matmul-computed"

    def match(self, task: Task, target: Target) -> bool:
        """Whether both operands are bytes that the kernel does not know, and the target multiplies them exactly."""
        if task.anchor != "matmul_integer" or task.integers is not None or task.compressed is not None:
            return False
        if target.kind != "llvm" or product_sizes(task) is None or _dot(target) is None or task.zeros is None:
            return False
        vectors = [task.anchor_inputs[zero] for zero in task.zeros if isinstance(zero, ZeroInput)]
        return not any(spec.shape for spec in vectors)

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """Register tiles: `rows` of the left operand, `vectors` of columns."""
        return tile_space(_problem(task), target)

    def default(self, task: Task, target: Target) -> Config:
        """The tile that fits the registers and needs the fewest cycles."""
        tile = choose_tile(_problem(task), _required_dot(target), target)
        return {"rows": tile.rows, "vectors": tile.vectors}

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The kernel; its workspace is the packed panel and the sums of rows and columns.

        Raises:
            EdgeIRError: for a config outside `space`.
        """
        problem, tile = _problem(task), MatmulTile.from_config(config, self.space(task, target), self.name)
        dot, (left, right) = _required_dot(target), _operands(task, target)

        def anchor(inputs: Sequence[AnyTensor]) -> AnyTensor:
            a, copied = _left(problem, left, inputs[0], task.anchor_operands[0] is None)
            words = _packed(problem, dot, right, inputs[1], tile.vectors)
            sums = _sums(problem, dot, a, copied, words, tile.vectors)
            return _differences(problem, (left, right), inputs, sums, tile.vectors * dot.lanes)

        placeholders, outputs = task.build(anchor)
        order = dot_sums(dot)

        def schedule_all(schedule: AnySchedule, sums: Any, depth: int, tile: MatmulTile, target: Target) -> None:
            order.schedule(schedule, sums, depth, tile, target)
            _schedule_column_sums(schedule, problem, target)

        how: Sums = replace(order, schedule=schedule_all, panel_at_a_time=True, vector_panels=not problem.transpose_b)
        args: list[Any] = [*placeholders, *outputs]
        func = schedule_matmul(args, task.name, problem, tile, target, how, frozenset({LEFT}))
        return Kernel(func, workspace_bytes=workspace_bytes(func))


def _left(problem: MatmulProblem, operand: _Operand, a: AnyTensor, computed: bool) -> tuple[AnyTensor, bool]:
    """The left operand as whole quads along its rows: as it lies, or a copy (groups, rows, K); whether it is one."""
    ragged = problem.depth % QUAD
    if not (ragged or operand.moved or problem.transpose_a or computed):
        return a, False
    depth = math.ceil(problem.depth / QUAD) * QUAD

    def element(g: Any, r: Any, k: Any) -> Any:
        value = _moved(a[problem.a_index(g, r, k)], operand)
        return tirx.if_then_else(k < problem.depth, value, tirx.const(0, operand.wanted)) if ragged else value

    copy: Any = te.compute((problem.groups, problem.rows, depth), element, name=LEFT)
    return copy, True


def _moved(value: Any, operand: _Operand) -> Any:
    """A byte in the wanted signedness: 128 more or less is its upper bit turned."""
    if not operand.moved:
        return value
    bit = tirx.const(-_HALF if operand.dtype == "int8" else _HALF, operand.dtype)
    return tirx.reinterpret(operand.wanted, value ^ bit)


def _packed(problem: MatmulProblem, dot: DotProduct, operand: _Operand, b: AnyTensor, vectors: int) -> AnyTensor:
    """The right operand as words of four bytes along K: (groups, panels, quads, vectors, lanes)."""
    width = vectors * dot.lanes
    panels, quads = math.ceil(problem.columns / width), math.ceil(problem.depth / QUAD)
    turned = tirx.const(0x80808080, "uint32")

    def word(g: Any, o: Any, j: Any, b_vector: Any, v: Any) -> Any:
        column = o * width + b_vector * dot.lanes + v
        whole: Any = None
        for q in range(QUAD):
            k = j * QUAD + q
            byte: Any = tirx.reinterpret("uint8", b[problem.b_index(g, k, column)])
            byte = byte.astype("uint32")
            if q >= problem.depth % QUAD > 0:
                byte = tirx.if_then_else(k < problem.depth, byte, tirx.const(_filler(operand), "uint32"))
            part = byte << tirx.const(8 * q, "uint32") if q else byte
            whole = part if whole is None else whole | part
        whole = whole ^ turned if operand.moved else whole
        whole = tirx.reinterpret("int32", whole)
        if problem.columns % width == 0:
            return whole
        return tirx.if_then_else(column < problem.columns, whole, tirx.const(0, "int32"))

    return te.compute((problem.groups, panels, quads, vectors, dot.lanes), word, name=PANELS)


def _filler(operand: _Operand) -> int:
    """The byte that is 0 once it is moved."""
    return _HALF if operand.moved else 0


def _sums(
    problem: MatmulProblem, dot: DotProduct, a: AnyTensor, copied: bool, words: AnyTensor, vectors: int
) -> AnyTensor:
    """The raw sums in whole panels, (groups, rows, panels, vectors, lanes)."""
    groups, panels, quads = (int(extent) for extent in words.shape[:3])
    j: Any = te.reduce_axis((0, quads), name="j")
    q: Any = te.reduce_axis((0, QUAD), name="q")

    def product(g: Any, r: Any, o: Any, b: Any, v: Any) -> Any:
        at: Any = (g, r, j * QUAD + q) if copied else problem.a_index(g, r, j * QUAD + q)
        word: Any = words[g, o, j, b, v]
        shift: Any = q * 8
        byte = (word >> shift).astype("int8")
        return te.sum(a[at].astype("int32") * byte.astype("int32"), axis=[j, q])

    sums: Any = te.compute((groups, problem.rows, panels, vectors, dot.lanes), product, name=ACCUMULATOR)
    return sums


def _differences(
    problem: MatmulProblem,
    operands: tuple[_Operand, _Operand],
    inputs: Sequence[AnyTensor],
    sums: AnyTensor,
    width: int,
) -> AnyTensor:
    """The sums of products of differences, in the output's own shape."""
    left, right = operands
    zeros = [operand.zero_point(inputs) for operand in operands]
    lanes = int(sums.shape[-1])
    k: Any = te.reduce_axis((0, problem.depth), name="k")
    rows: Any = None
    if right.zero != 0:

        def row_sum(g: Any, r: Any) -> Any:
            return te.sum(_wide(inputs[0][problem.a_index(g, r, k)], left), axis=k)

        rows = te.compute((problem.groups, problem.rows), row_sum, name=_ROWS)
    columns: Any = None
    if left.zero != 0:

        def column_sum(g: Any, n: Any) -> Any:
            return te.sum(_wide(inputs[1][problem.b_index(g, k, n)], right), axis=k)

        columns = te.compute((problem.groups, problem.columns), column_sum, name=_COLUMNS)

    def result(*index: Any) -> Any:
        group, row = problem.group_and_row(index[:-1])
        column = index[-1]
        value: Any = sums[group, row, column // width, column % width // lanes, column % lanes]
        if rows is not None:
            value = value - zeros[1] * rows[group, row]
        if columns is not None:
            value = value - zeros[0] * columns[group, column]
        if rows is not None and columns is not None:
            value = value + zeros[0] * zeros[1] * tirx.const(problem.depth, "int32")
        return value

    return te.compute((*problem.batch, problem.matrix_rows, problem.columns), result, name="matmul_integer")


def _wide(value: Any, operand: _Operand) -> Any:
    return _moved(value, operand).astype("int32")


def _schedule_column_sums(schedule: AnySchedule, problem: MatmulProblem, target: Target) -> None:
    """Vectors of columns where these lie side by side."""
    names = [str(schedule.get(block).name_hint) for block in schedule.get_child_blocks(schedule.get_sblock("root"))]
    if _COLUMNS not in names or problem.transpose_b or problem.columns % target.lanes(32):
        return
    block = schedule.get_sblock(_COLUMNS)
    *_, column, k = schedule.get_loops(block)
    _, lane = schedule.split(column, factors=[None, target.lanes(32)])
    schedule.reorder(k, lane)
    schedule.vectorize(lane)
    initial = schedule.decompose_reduction(block, k)
    schedule.vectorize(schedule.get_loops(initial)[-1])


def _operands(task: Task, target: Target) -> tuple[_Operand, _Operand]:
    wanted = ("uint8", "int8") if target.architecture == "x86_64" else ("int8", "int8")
    assert task.zeros is not None
    found = []
    for spec, zero, dtype in zip(task.anchor_inputs, task.zeros, wanted, strict=False):
        operand = _Operand(spec.dtype, dtype, None, None)
        if isinstance(zero, ZeroInput):
            found.append(replace(operand, input=int(zero)))
        else:
            found.append(replace(operand, zero=zero + operand.shift))
    return found[0], found[1]


def _dot(target: Target) -> DotProduct | None:
    dot = dot_product(target, "uint8" if target.architecture == "x86_64" else "int8", _ANY)
    return None if dot is None or dot.halves else dot


def _required_dot(target: Target) -> DotProduct:
    dot = _dot(target)
    assert dot is not None
    return dot


def _problem(task: Task) -> MatmulProblem:
    return required_problem(task, product_sizes(task))
