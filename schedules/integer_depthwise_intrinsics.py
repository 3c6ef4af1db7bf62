"""Dot products of a few kernel taps in a row, for every channel of a block.

    vpdpbusd    AVX-512 VNNI and AVX-VNNI: four taps, unsigned times signed
    sdot        ARM with dot products: four taps, signed
    vpmaddwd    other x86: two taps, widened to 16 bits

The bytes of neighbouring pixels of one channel block are contiguous: channel by channel for each pixel. One shuffle
turns them into groups of taps of one channel, the form in which the instructions multiply them with weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from edgeir.schedules.register_tile import is_x86
from edgeir.targets.target import Target

_PMADDWD = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}


@dataclass(frozen=True)
class TapDot:
    """An instruction that adds products of neighbouring taps.

    Attributes:
        taps: products that one 32-bit lane adds up.
        block: channels, one 32-bit lane each.
        dtype: element type of the input.
        kind: the instruction.
    """

    taps: int
    block: int
    dtype: str
    kind: str

    @property
    def bytes(self) -> int:
        """Bytes of a group of taps of all channels, and weights of such a group."""
        return self.taps * self.block

    @property
    def group_dtype(self) -> str:
        """Element type, with lanes, of a group of taps in a register."""
        return f"int16x{self.bytes}" if self.kind == "pmaddwd" else f"{self.dtype}x{self.bytes}"

    def gather(self, pixels: Any) -> Any:
        """Groups of taps of every channel from the bytes of `taps` pixels in a row."""
        order = [tap * self.block + lane for lane in range(self.block) for tap in range(self.taps)]
        if self.kind == "pmaddwd" and self.dtype == "uint8" and self.block == 8:
            return _spread_pairs(pixels)
        taps = _chosen(pixels, order)
        return taps.astype(self.group_dtype) if self.kind == "pmaddwd" else taps

    def weight_group(self, taps: Any, first: int, count: int) -> Any:
        """int8 weights of a group of taps as (block, taps), zeros after `count` taps.

        Args:
            taps: int8 weights of `taps` taps in a row, (taps, block).
            first: the first of them that belongs to the group.
            count: how many do.
        """
        order = [
            (first + tap) * self.block + lane if tap < count else self.bytes
            for lane in range(self.block)
            for tap in range(self.taps)
        ]
        if count == self.taps:
            return _chosen(taps, order)
        lanes: Any = self.bytes
        zeros = tirx.Broadcast(tirx.const(0, "int8"), lanes)
        return tirx.Shuffle([taps, zeros], _numbers("int32", order))

    def weights(self, groups: Sequence[Any], shift: int) -> list[Any]:
        """Weights of a kernel row as the instruction takes them, moved `shift` taps to the right.

        Args:
            groups: int8 weights of each group of taps, (block, taps).
            shift: less than `taps`; weights moved out of the last group must be 0.
        """
        wide = f"int16x{self.bytes}" if self.kind == "pmaddwd" else f"int8x{self.bytes}"
        ready = [group.astype(wide) for group in groups]
        if not shift:
            return ready
        bits, lanes = 32 // self.taps * shift, f"uint32x{self.block}"
        words = [tirx.reinterpret(lanes, group) for group in ready]
        moved = [word << _broadcast(bits, self.block) for word in words]
        for index in range(1, len(words)):
            moved[index] = moved[index] | (words[index - 1] >> _broadcast(32 - bits, self.block))
        return [tirx.reinterpret(wide, word) for word in moved]

    def add(self, total: Any | None, group: Any, weights: Any) -> Any:
        """The sums plus the products of a group; None stands for sums of 0."""
        sums = f"int32x{self.block}"
        if self.kind == "pmaddwd":
            products = _call(sums, _PMADDWD[self.block], group, weights)
            return products if total is None else _fenced(total, self.block) + products
        count: Any = self.block
        start = tirx.Broadcast(tirx.const(0, "int32"), count) if total is None else total
        if self.kind == "sdot":
            return _call(sums, "llvm.aarch64.neon.sdot.v4i32.v16i8", start, group, weights)
        return _call(sums, f"llvm.x86.avx512.vpdpbusd.{32 * self.block}", start, group, weights)


def tap_dot(target: Target, block: int, dtype: str) -> TapDot | None:
    """The target's dot product of taps for inputs of `dtype` in blocks of `block` channels; None where it has none."""
    if 32 * block != target.vector_bits:
        return None
    if is_x86(target):
        wide = target.has("avx512_vnni") and (block == 16 or target.has("avx512vl"))
        if dtype == "uint8" and (wide or (target.has("avx_vnni") and block <= 8)):
            return TapDot(4, block, dtype, "vpdpbusd")
        known = {4: "sse2", 8: "avx2", 16: "avx512bw"}[block]
        return TapDot(2, block, dtype, "pmaddwd") if block == 4 or target.has(known) else None
    dots = target.architecture == "aarch64" and target.has("asimddp")
    return TapDot(4, block, dtype, "sdot") if dots and block == 4 and dtype == "int8" else None


def _call(dtype: str, name: str, *arguments: Any) -> Any:
    return tirx.call_llvm_pure_intrin(dtype, name, *arguments)


def _broadcast(value: int, lanes: int) -> Any:
    count: Any = lanes  # TVM's annotations ask for an expression; it takes integers
    return tirx.Broadcast(tirx.const(value, "uint32"), count)


def _chosen(vector: Any, order: Sequence[int]) -> Any:
    return tirx.Shuffle([vector], _numbers("int32", order))


def _numbers(dtype: str, values: Iterable[int]) -> list[Any]:
    return [tirx.IntImm(dtype, value) for value in values]


def _spread_pairs(pixels: Any) -> Any:
    """Two pixels of 8 channels as pairs of 16-bit numbers by one shuffle: both halves of a register hold all bytes."""
    both: Any = tirx.Shuffle([pixels, pixels], _numbers("int32", range(32)))
    order = []
    for channel in range(8):
        order += [channel, -1, 8 + channel, -1]
    control: Any = tirx.Shuffle(_numbers("int8", order), _numbers("int32", range(32)))
    spread = _call("int8x32", "llvm.x86.avx2.pshuf.b", tirx.reinterpret("int8x32", both), control)
    return tirx.reinterpret("int16x16", spread)


def _fenced(total: Any, lanes: int) -> Any:
    """The sums as they are, hidden from LLVM's reassociation, which would add products up first and hold more."""
    number = tirx.reinterpret(f"float32x{lanes}", total)
    fence = _call(f"float32x{lanes}", f"llvm.arithmetic.fence.v{lanes}f32", number)
    return tirx.reinterpret(f"int32x{lanes}", fence)
