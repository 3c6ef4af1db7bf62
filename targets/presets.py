"""Machines as data.

FMA rates and latencies are those of the vendors' optimization guides (Intel 64 and IA-32 Optimization Reference
Manual, AMD Software Optimization Guides, Arm Cortex-A Software Optimization Guides) or, where a guide has none
(Cortex-A53), of LLVM's scheduling model. A level that many machines share takes the more cautious value: the
longer latency and the smaller cache. A second-level cache that several cores share counts with one core's share.
"""

from __future__ import annotations

from dataclasses import replace

from edgeir.targets.features import WIDE_VECTORS, X86_LEVELS
from edgeir.targets.gpus import GPU_ALIASES, GPU_PRESETS
from edgeir.targets.target import Target

_K = 1024
_M = 1024 * 1024

# Nehalem and Goldmont class: no FMA, so a chain of sums waits for the addition (3 to 4 cycles).
_V2 = Target(
    name="x86-64-v2",
    triple="x86_64-linux-gnu",
    cpu="x86-64-v2",
    required=X86_LEVELS["x86-64-v2"],
    vector_bits=128,
    vector_registers=16,
    fma_per_cycle=1,
    fma_latency=4,
    l1_bytes=24 * _K,
    l2_bytes=256 * _K,
    l3_bytes=4 * _M,
    cores=4,
)
# Haswell and later, Zen 1 to 3: two FMA ports, latency 5 (Haswell, Zen 1 and 2) or 4 (Skylake, Zen 3).
_V3 = replace(
    _V2,
    name="x86-64-v3",
    cpu="x86-64-v3",
    required=X86_LEVELS["x86-64-v3"],
    vector_bits=256,
    fma=True,
    fma_per_cycle=2,
    fma_latency=5,
    l1_bytes=32 * _K,
    l3_bytes=8 * _M,
)
# Skylake-X, Ice Lake, Zen 4 and later.
_V4 = replace(
    _V3,
    name="x86-64-v4",
    cpu="x86-64-v4",
    features=(WIDE_VECTORS,),
    required=X86_LEVELS["x86-64-v4"],
    vector_bits=512,
    vector_registers=32,
    fma_latency=4,
    l2_bytes=1 * _M,
    l3_bytes=16 * _M,
)
# Alder Lake and Arrow Lake: AVX-VNNI without AVX-512.
_V3_VNNI = replace(
    _V3,
    name="x86-64-v3-vnni",
    features=("+avxvnni",),
    required=(*X86_LEVELS["x86-64-v3"], "avx_vnni"),
    fma_latency=4,
    l2_bytes=1 * _M,
)
_V4_VNNI = replace(
    _V4,
    name="x86-64-v4-vnni",
    features=(WIDE_VECTORS, "+avx512vnni"),
    required=(*X86_LEVELS["x86-64-v4"], "avx512_vnni"),
)

# In order, one 128-bit FMLA a cycle; 512 KiB of L2 for four cores (BCM2837).
_A53 = Target(
    name="cortex-a53",
    triple="aarch64-linux-gnu",
    cpu="cortex-a53",
    required=("asimd",),
    vector_bits=128,
    vector_registers=32,
    fma=True,
    fma_per_cycle=1,
    fma_latency=8,
    l1_bytes=32 * _K,
    l2_bytes=128 * _K,
    cores=4,
)
# Latency 7, 3 along the accumulator; one 128-bit FMLA a cycle; 1 MiB of L2 for four cores (BCM2711).
_A72 = replace(_A53, name="cortex-a72", cpu="cortex-a72", fma_latency=4, l2_bytes=256 * _K)
# Two 128-bit FMLA a cycle; 512 KiB of L2 for each core and 2 MiB of L3 (BCM2712).
_A76 = replace(
    _A53,
    name="cortex-a76",
    cpu="cortex-a76",
    required=("asimd", "asimddp", "asimdhp", "fphp"),
    fma_per_cycle=2,
    fma_latency=4,
    l1_bytes=64 * _K,
    l2_bytes=512 * _K,
    l3_bytes=2 * _M,
)
# In order, Armv9: LLVM may use SVE2 where it vectorizes a loop itself; kernels' own vectors stay NEON's. The cautious
# configuration: 64-bit vector units (one 128-bit FMLA a cycle), which two cores share.
_A510 = replace(
    _A53,
    name="cortex-a510",
    cpu="cortex-a510",
    required=("asimd", "asimddp", "asimdhp", "bf16", "fphp", "i8mm", "sve", "sve2"),
    fma_latency=4,
)
# Cortex-A7 class and 32-bit systems on later cores. Explicit vectors become NEON code without `fast-math`.
_ARMV7 = Target(
    name="armv7-neon",
    triple="armv7a-linux-gnueabihf",
    features=("+neon", "+vfp4"),
    required=("neon", "vfpv4"),
    vector_bits=128,
    vector_registers=16,
    fma=True,
    fma_per_cycle=1,
    fma_latency=8,
    l1_bytes=32 * _K,
    l2_bytes=128 * _K,
    cores=4,
)
# The V extension promises registers of at least 128 bits.
_RISCV64 = Target(
    name="riscv64-v",
    triple="riscv64-linux-gnu",
    cpu="generic-rv64",
    features=("+m", "+a", "+f", "+d", "+c", "+v"),
    required=("a", "c", "d", "f", "m", "v"),
    vector_bits=128,
    vector_registers=32,
    fma=True,
    fma_per_cycle=1,
    fma_latency=6,
    l1_bytes=32 * _K,
    l2_bytes=128 * _K,
    cores=4,
)
# The engine maps the registers to the host's, of which there are at least 16; no FMA without relaxed SIMD.
_WASM32 = Target(
    name="wasm32",
    triple="wasm32-unknown-unknown",
    features=("+simd128",),
    vector_bits=128,
    vector_registers=16,
    fma_latency=4,
    l1_bytes=32 * _K,
    l2_bytes=256 * _K,
    cores=1,
)

PRESETS: dict[str, Target] = {
    target.name: target
    for target in (_V2, _V3, _V4, _V3_VNNI, _V4_VNNI, _A53, _A72, _A76, _A510, _ARMV7, _RISCV64, _WASM32)
} | GPU_PRESETS
"""Name → machine."""

ALIASES: dict[str, str] = {
    "raspberry-pi-3": "cortex-a53",
    "raspberry-pi-4": "cortex-a72",
    "raspberry-pi-5": "cortex-a76",
} | GPU_ALIASES
"""Board → name of a preset."""
