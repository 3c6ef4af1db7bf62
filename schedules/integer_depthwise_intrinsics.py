"""Dot products of a few kernel taps in a row, for every channel of a block.

    vpdpbusd    AVX-512 VNNI and AVX-VNNI: four taps, unsigned times signed
    sdot        ARM with dot products: four taps, signed
    vpmaddwd    other x86: two taps, widened to 16 bits

The bytes of neighbouring pixels of one channel block are contiguous: channel by channel for each pixel. One shuffle
turns them into groups of taps of one channel, the form in which the instructions multiply them with weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from edgeir.schedules.register_tile import is_x86
from edgeir.schedules.tir_types import Expression
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
    def name(self) -> str:
        """The tensor intrinsic c[v] += Σ x[t, v]·w[v, t]: x (taps, block), w int8 (block, taps), c int32 (block)."""
        name = f"edgeir.tap_{self.kind}_{self.dtype}_{self.block}"
        if TensorIntrin.get(name, allow_missing=True) is None:
            TensorIntrin.register(name, *_definitions(self))
        return name


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


def _sum(dot: TapDot, total: Any, pixels: Any, weights: Any) -> Expression:
    order = [tap * dot.block + lane for lane in range(dot.block) for tap in range(dot.taps)]
    taps: Any = tirx.Shuffle([pixels], [tirx.IntImm("int32", i) for i in order])
    sums = f"int32x{dot.block}"
    if dot.kind == "sdot":
        return tirx.call_llvm_pure_intrin(sums, "llvm.aarch64.neon.sdot.v4i32.v16i8", total, taps, weights)
    if dot.kind == "vpdpbusd":
        return tirx.call_llvm_pure_intrin(sums, f"llvm.x86.avx512.vpdpbusd.{32 * dot.block}", total, taps, weights)
    wide = f"int16x{2 * dot.block}"
    return total + tirx.call_llvm_pure_intrin(sums, _PMADDWD[dot.block], taps.astype(wide), weights.astype(wide))


def _definitions(dot: TapDot) -> tuple[Any, Any]:
    """What `tensorize` compares a block with, and the same by the machine's instruction."""
    taps, block, dtype = dot.taps, dot.block, dot.dtype
    pixels, weights = f"{dtype}x{taps * block}", f"int8x{taps * block}"

    @T.prim_func(s_tir=True)
    def description(
        x: T.Buffer((taps, block), dtype, offset_factor=1),  # pyright: ignore[reportInvalidTypeForm]
        w: T.Buffer((block, taps), "int8", offset_factor=1),  # pyright: ignore[reportInvalidTypeForm]
        c: T.Buffer((block,), "int32", offset_factor=1),  # pyright: ignore[reportInvalidTypeForm]
    ) -> None:
        with T.sblock("root"):
            T.reads(c[0:block], x[0:taps, 0:block], w[0:block, 0:taps])
            T.writes(c[0:block])
            for i in T.serial(0, block):
                for k in T.serial(0, taps):
                    with T.sblock("update"):
                        vi, vk = T.axis.remap("SR", [i, k])
                        c[vi] = c[vi] + T.cast(x[vk, vi], "int32") * T.cast(w[vi, vk], "int32")

    def combine(total: Any, pixels: Any, weights: Any) -> Expression:
        return _sum(dot, total, pixels, weights)

    @T.prim_func(s_tir=True)
    def implementation(
        x: T.Buffer((taps, block), dtype, offset_factor=1),  # pyright: ignore[reportInvalidTypeForm]
        w: T.Buffer((block, taps), "int8", offset_factor=1),  # pyright: ignore[reportInvalidTypeForm]
        c: T.Buffer((block,), "int32", offset_factor=1),  # pyright: ignore[reportInvalidTypeForm]
    ) -> None:
        with T.sblock("root"):
            T.reads(c[0:block], x[0:taps, 0:block], w[0:block, 0:taps])
            T.writes(c[0:block])
            c[T.ramp(T.int32(0), 1, block)] = combine(
                c[T.ramp(T.int32(0), 1, block)], x.vload([0, 0], pixels), w.vload([0, 0], weights)
            )

    return description, implementation
