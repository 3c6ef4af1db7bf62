"""CPU features: LLVM's names beside the operating system's, and what each says of the SIMD registers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# One row per feature that code generation can make use of: LLVM's name → the names that Linux gives in
# /proc/cpuinfo (x86 and arm), or the extension's letters in the `isa` line (RISC-V). macOS's names are
# brought to the same spelling in host.py. A feature of LLVM that is absent here is not offered.
_X86: dict[str, tuple[str, ...]] = {
    "sse2": ("sse2",),
    "sse3": ("pni",),
    "ssse3": ("ssse3",),
    "sse4.1": ("sse4_1",),
    "sse4.2": ("sse4_2",),
    "cx16": ("cx16",),
    "sahf": ("lahf_lm",),
    "popcnt": ("popcnt",),
    "avx": ("avx",),
    "avx2": ("avx2",),
    "fma": ("fma",),
    "f16c": ("f16c",),
    "bmi": ("bmi1",),
    "bmi2": ("bmi2",),
    "lzcnt": ("abm",),
    "movbe": ("movbe",),
    "gfni": ("gfni",),
    "avxvnni": ("avx_vnni",),
    "avxvnniint8": ("avx_vnni_int8",),
    "avxifma": ("avx_ifma",),
    "avx512f": ("avx512f",),
    "avx512bw": ("avx512bw",),
    "avx512cd": ("avx512cd",),
    "avx512dq": ("avx512dq",),
    "avx512vl": ("avx512vl",),
    "avx512vnni": ("avx512_vnni",),
    "avx512bf16": ("avx512_bf16",),
    "avx512fp16": ("avx512_fp16",),
    "avx512ifma": ("avx512ifma",),
    "avx512vbmi": ("avx512vbmi",),
    "avx512vbmi2": ("avx512_vbmi2",),
    "avx512bitalg": ("avx512_bitalg",),
    "avx512vpopcntdq": ("avx512_vpopcntdq",),
}
_AARCH64: dict[str, tuple[str, ...]] = {
    "neon": ("asimd",),
    "dotprod": ("asimddp",),
    "fullfp16": ("fphp", "asimdhp"),
    "i8mm": ("i8mm",),
    "bf16": ("bf16",),
    "rdm": ("asimdrdm",),
    "lse": ("atomics",),
    "crc": ("crc32",),
    "fp16fml": ("asimdfhm",),
    "sve": ("sve",),
    "sve2": ("sve2",),
}
_ARM: dict[str, tuple[str, ...]] = {
    "neon": ("neon",),
    "vfp3": ("vfpv3",),
    "vfp4": ("vfpv4",),
    "dotprod": ("asimddp",),
    "fullfp16": ("fphp", "asimdhp"),
    "crc": ("crc32",),
}
_RISCV64: dict[str, tuple[str, ...]] = {
    **{letter: (letter,) for letter in "mafdcv"},
    "zba": ("zba",),
    "zbb": ("zbb",),
    "zfh": ("zfh",),
    "zvfh": ("zvfh",),
    # A register is at least 128 bits wide with `v`; wider ones must be promised to the compiler.
    "zvl256b": ("zvl256b",),
    "zvl512b": ("zvl512b",),
}
_WASM32: dict[str, tuple[str, ...]] = {"simd128": (), "relaxed-simd": (), "bulk-memory": ()}

FEATURES: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": _X86,
    "aarch64": _AARCH64,
    "arm": _ARM,
    "riscv64": _RISCV64,
    "wasm32": _WASM32,
}
"""Architecture → LLVM feature → the names under which an operating system reports it."""

# The processor levels of the x86-64 psABI, in /proc/cpuinfo's names; each includes the one before.
_V2 = ("cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3")
_V3 = (*_V2, "abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
X86_LEVELS: dict[str, tuple[str, ...]] = {"x86-64-v2": _V2, "x86-64-v3": _V3, "x86-64-v4": _V4}
"""LLVM's names of the x86-64 psABI levels → the CPU features that each requires (OS names)."""


WIDE_VECTORS = "-prefer-256-bit"
"""With AVX-512, LLVM prefers 256-bit registers wherever it vectorizes a loop itself, while explicit vectors of 512 bits
stay whole either way (seen in its assembly). This feature of LLVM, taken away, keeps both kinds of code at 512 bits."""


@dataclass(frozen=True)
class SimdShape:
    """The SIMD registers that a set of features gives: width in bits, their number, fused multiply-add."""

    vector_bits: int
    vector_registers: int
    fma: bool


def simd_shape(architecture: str, reported: Iterable[str]) -> SimdShape:
    """The SIMD registers of a CPU.

    Args:
        architecture: `x86_64`, `aarch64`, `arm`, `riscv64` or `wasm32`; another is taken for a scalar machine.
        reported: features in the operating system's names (LLVM's for wasm).
    """
    has = frozenset(reported)
    if architecture == "x86_64":
        if "avx512f" in has:
            return SimdShape(512, 32, True)
        # A 256-bit register without AVX2 has no integer arithmetic, but floats fill it.
        return SimdShape(256 if has & {"avx", "avx2"} else 128, 16, "fma" in has)
    if architecture == "aarch64":
        # SVE's width is unknown at compile time, so it is used at NEON's 128 bits.
        return SimdShape(128, 32, True)
    if architecture == "arm":
        return SimdShape(128 if "neon" in has else 0, 16, "vfpv4" in has)
    if architecture == "riscv64":
        width = 512 if "zvl512b" in has else 256 if "zvl256b" in has else 128
        return SimdShape(width if "v" in has else 0, 32, "f" in has)
    if architecture == "wasm32":
        return SimdShape(128 if "simd128" in has else 0, 16, "relaxed-simd" in has)
    return SimdShape(0, 0, False)


def reported_names(architecture: str, llvm_features: Iterable[str]) -> tuple[str, ...]:
    """The operating system's names of LLVM features (without sign) that the table knows, sorted, each once."""
    table = FEATURES.get(architecture, {})
    return tuple(sorted({name for feature in llvm_features for name in table.get(feature, ())}))
