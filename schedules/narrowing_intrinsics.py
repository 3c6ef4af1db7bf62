"""From registers of floats to bytes by instructions that saturate: rounding, and packs of several registers.

x86's `cvtps2dq` rounds half to even and gives −2^31 for what int32 cannot hold, NaN included; `packssdw` and `packuswb`
saturate to 16 and to 8 bits. So only what exceeds int32 must be limited before. The packs work within 128-bit lanes,
the order of whose words is restored by one shuffle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from edgeir.targets.target import Target

GROUPS = (4, 2, 1)
"""Registers that are packed together, the cheapest way first."""

_ROUND = {4: "llvm.x86.sse2.cvtps2dq", 8: "llvm.x86.avx.cvt.ps2dq.256", 16: "llvm.x86.avx512.mask.cvtps2dq.512"}
_TO_16 = {4: "llvm.x86.sse2.packssdw.128", 8: "llvm.x86.avx2.packssdw", 16: "llvm.x86.avx512.packssdw.512"}
_TO_8 = {4: "llvm.x86.sse2.packuswb.128", 8: "llvm.x86.avx2.packuswb", 16: "llvm.x86.avx512.packuswb.512"}
_FEATURES = {4: "ssse3", 8: "avx2", 16: "avx512bw"}
_CURRENT_DIRECTION = 4
"""The rounding operand of AVX-512 that means: as the control register says."""


@dataclass(frozen=True)
class Narrowing:
    """How registers of `lanes` float32 numbers become uint8: saturate(round_half_even(x) + zero).

    x is at most 255 − zero, or NaN, which gives 0.
    """

    lanes: int

    def compute(self, values: Sequence[Any], zero: int) -> Any:
        """The bytes of one, two or four registers, one register after the other.

        Args:
            values: float32 vectors of `lanes`.
            zero: 0 … 255.
        """
        lanes, parts = self.lanes, self.lanes // 4
        whole = [self._rounded(value) for value in values]
        pairs = [(whole[i], whole[i + 1 if len(whole) > 1 else i]) for i in range(0, len(whole), 2)]
        words = [_call(_TO_16[lanes], f"int16x{2 * lanes}", *pair) for pair in pairs]
        if zero:
            offset = _broadcast(tirx.const(zero, "int16"), 2 * lanes)
            words = [_call(f"llvm.sadd.sat.v{2 * lanes}i16", f"int16x{2 * lanes}", word, offset) for word in words]
        packed = _call(_TO_8[lanes], f"uint8x{4 * lanes}", words[0], words[-1])
        # Now 128-bit lane k holds the k-th four bytes of every register.
        order: Any = [4 * part + i for i in range(len(values)) for part in range(parts)]
        length = lanes * len(values)
        if order != list(range(lanes)):
            packed = tirx.Shuffle([tirx.reinterpret(f"int32x{lanes}", packed)], order)
        return tirx.reinterpret(f"uint8x{length}", packed)

    def _rounded(self, value: Any) -> Any:
        lanes = self.lanes
        more: list[Any] = []
        if lanes == 16:
            zeros = _broadcast(tirx.const(0, "int32"), lanes)
            more = [zeros, tirx.const(-1, "int16"), tirx.const(_CURRENT_DIRECTION, "int32")]
        return _call(_ROUND[lanes], f"int32x{lanes}", value, *more)


def narrowing(target: Target, lanes: int) -> Narrowing | None:
    """How the target packs registers of `lanes` float32 numbers; None where there are no instructions for it."""
    if target.gpu is not None or target.kind != "llvm" or target.architecture != "x86_64":
        return None
    return Narrowing(lanes) if lanes in _FEATURES and target.has(_FEATURES[lanes]) else None


def _broadcast(value: Any, lanes: int) -> Any:
    count: Any = lanes  # TVM's annotations ask for an expression; it takes integers
    return tirx.Broadcast(value, count)


def _call(name: str, dtype: str, *arguments: Any) -> Any:
    return tirx.call_llvm_pure_intrin(dtype, name, *arguments)
