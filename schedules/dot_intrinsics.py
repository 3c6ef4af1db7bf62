"""Inner products of bytes by the machines' own instructions: four products are added to each 32-bit lane.

    sums[v] += Σ_q int32(quad[q]) · int32(weights[v, q])        q = 0 … 3, v = one lane of a SIMD register

The quad is one 32-bit load, broadcast to all lanes; the weights are one register of packed bytes. `dot_product` chooses
the instructions for a target, `dot_loops` puts them in place of the loops of a scheduled kernel.

    vpdpbusd              AVX-512 VNNI and AVX-VNNI, unsigned times signed
    vpmaddubsw, vpmaddwd  SSSE3, AVX2, AVX-512BW; the sums of two products saturate at 16 bits, so |w0| + |w1| ≤ 128
    vpmaddwd              the same machines, exact for every weight: even and odd bytes are widened to 16 bits;
                          also for operands of 16 bits, a pair instead of a quad (`pair_product`)
    vpdpwssd              AVX-512 VNNI and AVX-VNNI, for operands of 16 bits: vpmaddwd that adds to the sums
    sdot                  ARM with dot products, signed
    smull, smlal, sadalp  other 64-bit ARM, signed, no weight of −128 (two products are added in 16 bits)
    smull, sadalp         the same, any weight
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from edgeir.schedules.task import Integers
from edgeir.targets.target import Target

QUAD = 4
"""Bytes whose products are added to one 32-bit lane."""

Combine = Callable[[Any, Any, Any, int], Any]
"""From sums (int32 x lanes), a quad (4 bytes), a register of weights (int8 x 4·lanes) and the lanes to new sums."""


@dataclass(frozen=True)
class DotProduct:
    """One way to add the products of a quad of bytes, or of another group of small integers, to a register of sums.

    Attributes:
        name: its main instruction, with the bits of a register.
        lanes: 32-bit lanes of one register.
        combine: the new sums as TIR.
        halves: whether a register of weights is (2, lanes, 2), the first two bytes of every lane before the last two,
            instead of (lanes, 4).
        instructions: SIMD instructions for one register of sums, loads left out.
        per_quad: further SIMD instructions for each broadcast quad.
        temporaries: registers beside sums, weights and the broadcast quad.
        weight_registers: registers that one register of weights is held in.
        group: integers whose products are added to one lane.
        weight: dtype of the weights.
    """

    name: str
    lanes: int
    combine: Combine
    halves: bool = False
    instructions: int = 1
    per_quad: int = 0
    temporaries: int = 0
    weight_registers: int = 1
    group: int = QUAD
    weight: str = "int8"

    def compute(self, sums: Any, quad: Any, weights: Any) -> Any:
        """The new sums.

        Args:
            sums: int32 vector of `lanes`.
            quad: vector of `group` integers.
            weights: vector of `group`·`lanes` integers.
        """
        return self.combine(sums, quad, weights, self.lanes)


def dot_product(target: Target, left: str, integers: Integers, lanes: int | None = None) -> DotProduct | None:
    """The fastest exact inner product for a left operand of dtype `left`; None where there is none.

    Args:
        target: the machine.
        left: `uint8` or `int8`.
        integers: what the constant weight allows.
        lanes: 32-bit lanes of the sums' registers; by default as many as fit.
    """
    lanes = lanes or target.lanes(32)
    if target.gpu is not None or target.kind != "llvm" or lanes > target.lanes(32):
        return None
    if target.architecture == "x86_64" and left == "uint8":
        return _x86(target, integers, lanes)
    if target.architecture == "aarch64" and lanes == 4 and left == "int8":
        return _arm(target, integers)
    return None


def pair_product(target: Target) -> DotProduct | None:
    """The inner product of pairs of int16, its sums modulo 2^32; None where there is none."""
    lanes = target.lanes(32)
    known = {4: "sse2", 8: "avx2", 16: "avx512bw"}
    if target.gpu is not None or target.kind != "llvm" or target.architecture != "x86_64" or lanes not in known:
        return None
    if lanes > 4 and not target.has(known[lanes]):
        return None
    if _has_vnni(target, 32 * lanes):
        return DotProduct(f"vpdpwssd_{32 * lanes}", lanes, _vpdpwssd, group=2, weight="int16")
    name = f"pmaddwd_pairs_{32 * lanes}"
    return DotProduct(name, lanes, _pmaddwd_pairs, group=2, weight="int16", instructions=2, temporaries=1)


def _x86(target: Target, integers: Integers, lanes: int) -> DotProduct | None:
    bits = 32 * lanes
    full = lanes == target.lanes(32)
    if _has_vnni(target, bits):
        return DotProduct(f"vpdpbusd_{bits}", lanes, _vpdpbusd)
    known = {128: "ssse3", 256: "avx2", 512: "avx512bw"}
    if bits not in known or not target.has(known[bits]) or not full:
        return None
    if integers.pairs_fit:
        return DotProduct(f"pmaddubsw_{bits}", lanes, _pmaddubsw, instructions=3, temporaries=2)
    return DotProduct(f"pmaddwd_{bits}", lanes, _pmaddwd, instructions=4, per_quad=2, temporaries=3, weight_registers=2)


def _has_vnni(target: Target, bits: int) -> bool:
    """Whether VNNI multiplies and adds registers of `bits` bits."""
    vnni = target.has("avx512_vnni") and (bits == 512 or target.has("avx512vl"))
    return (vnni or (target.has("avx_vnni") and bits <= 256)) and bits in (128, 256, 512)


def _arm(target: Target, integers: Integers) -> DotProduct:
    if target.has("asimddp"):
        return DotProduct("sdot_128", 4, _sdot)
    if integers.symmetric:
        return DotProduct(
            "smlal_128", 4, _smlal, halves=True, instructions=3, per_quad=2, temporaries=3, weight_registers=2
        )
    return DotProduct(
        "smull_128", 4, _smull, halves=True, instructions=4, per_quad=2, temporaries=4, weight_registers=2
    )


def _broadcast(value: Any, lanes: int) -> Any:
    count: Any = lanes  # TVM's annotations ask for an expression; it takes integers
    return tirx.Broadcast(value, count)


def _call(name: str, dtype: str, *arguments: Any) -> Any:
    return tirx.call_llvm_pure_intrin(dtype, name, *arguments)


def _every_lane(quad: Any, lanes: int, dtype: str) -> Any:
    """A quad in every 32-bit lane, as elements of `dtype`."""
    return tirx.reinterpret(dtype, _broadcast(tirx.reinterpret("int32", quad), lanes))


def _vpdpbusd(sums: Any, quad: Any, weights: Any, lanes: int) -> Any:
    broadcast = _every_lane(quad, lanes, f"uint8x{4 * lanes}")
    return _call(f"llvm.x86.avx512.vpdpbusd.{32 * lanes}", f"int32x{lanes}", sums, broadcast, weights)


def _vpdpwssd(sums: Any, pair: Any, weights: Any, lanes: int) -> Any:
    broadcast = _every_lane(pair, lanes, f"int16x{2 * lanes}")
    return _call(f"llvm.x86.avx512.vpdpwssd.{32 * lanes}", f"int32x{lanes}", sums, broadcast, weights)


def _fenced(sums: Any, lanes: int) -> Any:
    """The sums as they are, hidden from LLVM's reassociation.

    It would add up the products of several steps first and the sums last, which takes twice the registers.
    """
    number = tirx.reinterpret(f"float32x{lanes}", sums)
    return tirx.reinterpret(f"int32x{lanes}", _call(f"llvm.arithmetic.fence.v{lanes}f32", f"float32x{lanes}", number))


_PMADDUBSW = {4: "llvm.x86.ssse3.pmadd.ub.sw.128", 8: "llvm.x86.avx2.pmadd.ub.sw", 16: "llvm.x86.avx512.pmaddubs.w.512"}
_PMADDWD = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}


def _pmaddubsw(sums: Any, quad: Any, weights: Any, lanes: int) -> Any:
    broadcast = _every_lane(quad, lanes, f"uint8x{4 * lanes}")
    pairs = _call(_PMADDUBSW[lanes], f"int16x{2 * lanes}", broadcast, weights)
    ones = _broadcast(tirx.const(1, "int16"), 2 * lanes)
    return _fenced(sums, lanes) + _call(_PMADDWD[lanes], f"int32x{lanes}", pairs, ones)


def _pmaddwd(sums: Any, quad: Any, weights: Any, lanes: int) -> Any:
    """Bytes 0 and 2 of each lane as one pair of 16-bit numbers, bytes 1 and 3 as another."""
    wide, half = f"int16x{2 * lanes}", f"int32x{lanes}"
    inputs = _every_lane(quad, lanes, half)
    even = tirx.reinterpret(wide, inputs & _broadcast(tirx.const(0x00FF00FF, "int32"), lanes))
    shift = _broadcast(tirx.const(8, "uint16"), 2 * lanes)
    odd = tirx.reinterpret(wide, tirx.reinterpret(f"uint16x{2 * lanes}", inputs) >> shift)
    signed = tirx.reinterpret(wide, weights)
    eight = _broadcast(tirx.const(8, "int16"), 2 * lanes)
    first, second = (signed << eight) >> eight, signed >> eight
    once = _fenced(sums, lanes) + _call(_PMADDWD[lanes], half, even, first)
    return _fenced(once, lanes) + _call(_PMADDWD[lanes], half, odd, second)


def _pmaddwd_pairs(sums: Any, pair: Any, weights: Any, lanes: int) -> Any:
    """Sums that may wrap: TVM has LLVM assume that additions of signed numbers do not."""
    unsigned = f"uint32x{lanes}"
    products = _call(_PMADDWD[lanes], f"int32x{lanes}", _every_lane(pair, lanes, f"int16x{2 * lanes}"), weights)
    before: Any = tirx.reinterpret(unsigned, _fenced(sums, lanes))
    total = before + tirx.reinterpret(unsigned, products)
    return tirx.reinterpret(f"int32x{lanes}", total)


def _sdot(sums: Any, quad: Any, weights: Any, lanes: int) -> Any:
    broadcast = _every_lane(quad, lanes, "int8x16")
    return _call("llvm.aarch64.neon.sdot.v4i32.v16i8", "int32x4", sums, broadcast, weights)


def _chosen(vector: Any, lanes: Sequence[int]) -> Any:
    indices: Any = list(lanes)
    return tirx.Shuffle([vector], indices)


def _products(quad: Any, weights: Any) -> tuple[Any, Any]:
    """Products of the first two and of the last two bytes of every lane, each as int16x8."""
    pairs = tirx.reinterpret("int16x2", quad)
    products = []
    for half in range(2):
        # Halves of whole registers on both sides: the second product is then one `smull2`.
        lanes = range(8 * half, 8 * half + 8)
        pair = tirx.reinterpret("int8x16", _broadcast(_chosen(pairs, [half]), 8))
        products.append(_chosen(pair, lanes).astype("int16x8") * _chosen(weights, lanes).astype("int16x8"))
    return products[0], products[1]


def _add_pairs(products: Any) -> Any:
    return _call("llvm.aarch64.neon.saddlp.v4i32.v8i16", "int32x4", products)


def _smlal(sums: Any, quad: Any, weights: Any, lanes: int) -> Any:
    first, second = _products(quad, weights)
    return sums + _add_pairs(first + second)


def _smull(sums: Any, quad: Any, weights: Any, lanes: int) -> Any:
    first, second = _products(quad, weights)
    return sums + _add_pairs(first) + _add_pairs(second)
