"""Weights of 4 bits, or codes of a table, that an integer kernel decodes into registers of bytes before it sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm_ffi
from tvm import te, tirx
from tvm.ir import Call

from edgeir.schedules.compressed_weights import decoded_element
from edgeir.schedules.conv_problem import ConvProblem
from edgeir.schedules.conv_stages import TirSchedule, stage
from edgeir.schedules.dot_intrinsics import QUAD, DotProduct
from edgeir.schedules.integer_stages import channel_part, pack_weight, packed_shape
from edgeir.schedules.task import Compressed, View

DECODED = "decoded_weight"
_CODES = 16
_PAIRED = (4, 5, 1, 0)
"""Axes of packed weights along which two 4-bit numbers may share a byte, best first: quads, blocks, I, O."""


class PackedCodes:
    """How a compressed weight lies in memory, packed as `integer_stages.packed_shape` says, and how it is read."""

    def __init__(self, problem: ConvProblem, dot: DotProduct, blocks: int, compressed: Compressed, dtype: str) -> None:
        self.problem, self.dot, self.blocks, self.dtype = problem, dot, blocks, dtype
        self.whole = packed_shape(problem, dot, blocks)
        even = [axis for axis in _PAIRED if self.whole[axis] % 2 == 0]
        self.axis = even[0] if compressed.bits == 4 and even else None
        self.shape = tuple(n // 2 if axis == self.axis else n for axis, n in enumerate(self.whole))

    def pack(self) -> Callable[[np.ndarray], np.ndarray]:
        """From the (O, I, KH, KW) array of codes to what is stored."""
        move = pack_weight(self.problem, self.dot, self.blocks)

        def packed(array: np.ndarray) -> np.ndarray:
            moved = move(array)
            if self.axis is None:
                return moved
            front = np.moveaxis(moved.view(np.uint8), self.axis, 0)
            both = front[::2] & 15 | front[1::2] << 4
            return np.ascontiguousarray(np.moveaxis(both, 0, self.axis)).view(array.dtype)

        return packed

    def view(self) -> View:
        """From the stored array and an index (O, I, KH, KW) to a code, in 8 bits throughout: vectors stay short."""

        def read(stored: Any, index: Sequence[Any]) -> Any:
            place = self._place(index)
            if self.axis is None:
                return stored[tuple(place)]
            half = place[self.axis] % 2
            place[self.axis] = place[self.axis] // 2
            byte, four = stored[tuple(place)], tirx.const(4, self.dtype)
            low = (byte << four) >> four if self.dtype == "int8" else byte & tirx.const(15, self.dtype)
            return tirx.Select(half == 0, low, byte >> four)

        return read

    def _place(self, index: Sequence[Any]) -> list[Any]:
        o, i, row, column = index
        lanes, part = self.dot.lanes, channel_part(self.problem)
        q = i % QUAD
        lane = (q // 2, o % lanes, q % 2) if self.dot.halves else (o % lanes, q)
        tile, block = o // (lanes * self.blocks), o // lanes % self.blocks
        return [tile, i // part, row, column, i % part // QUAD, block, *lane]

    def decoded(self, weight: te.Tensor) -> te.Tensor:
        """The weight as bytes in packed form; zeros where a block or a quad is not full."""
        problem, lanes, part = self.problem, self.dot.lanes, channel_part(self.problem)

        def element(tile: Any, k: Any, row: Any, column: Any, j: Any, block: Any, *lane: Any) -> Any:
            v, q = (lane[1], lane[0] * 2 + lane[2]) if self.dot.halves else lane
            o, i = (tile * self.blocks + block) * lanes + v, k * part + j * QUAD + q
            inside = []
            if self.whole[0] * self.blocks * lanes != problem.out_channels:
                inside.append(o < problem.out_channels)
            if self.whole[1] * part != problem.in_group:
                inside.append(i < problem.in_group)
            value = _without_gathers(decoded_element(weight, [o, i, row, column]))
            # Codes beyond the channels are stored too, so that no test stands around the loads.
            return tirx.Select(tirx.all(*inside), value, tirx.const(0, "int8")) if inside else value

        return stage(self.whole, element, DECODED)


def _without_gathers(value: Any) -> Any:
    """The expression with elements of a table of 16 chosen by the bits of the code: vectors need no gathers."""

    def read(call: Any) -> Any:
        if getattr(call.op, "name", "") != "te.tensor_load" or not isinstance(call.args[1], tirx.Cast):
            return call
        source, index = call.args
        if [int(n) for n in source.shape] != [_CODES] or str(index.value.ty.dtype) != "uint8":
            return call
        code: Any = index.value
        found = [source(entry) for entry in range(_CODES)]
        for bit in range(4):
            chosen = (code & tirx.const(1 << bit, "uint8")) > tirx.const(0, "uint8")
            found = [tirx.Select(chosen, found[k + 1], found[k]) for k in range(0, len(found), 2)]
        return found[0]

    return tvm_ffi.structural_map(value, ((Call, read),))


def schedule_decoding(schedule: TirSchedule, dot: DotProduct) -> None:
    """Decodes whole registers at a time, the output tiles in parallel."""
    block = schedule.get_sblock(DECODED)
    loops = schedule.get_loops(block)
    inner = 3 if dot.halves else 2
    outer, register = loops[:-inner], loops[-inner:]
    schedule.parallel(schedule.fuse(*outer[:2]))
    for loop in outer[4:6]:
        schedule.unroll(loop)
    schedule.vectorize(schedule.fuse(*register))
