"""GPUs as data.

Shared memory, registers and threads of a block are those of the CUDA C++ Programming Guide, "Technical Specifications
per Compute Capability"; 48 KiB of shared memory is what a block may have without opting in. Numbers of processors are
those of NVIDIA's Jetson and Hopper data sheets; the preset of an architecture takes the smallest board.
"""

from __future__ import annotations

from dataclasses import replace

from edgeir.targets.features import X86_LEVELS
from edgeir.targets.target import Gpu, Target

# Carmel cores beside Volta.
_XAVIER = Target(
    name="cuda-sm_72",
    triple="aarch64-linux-gnu",
    cpu="carmel",
    required=("asimd",),
    vector_bits=128,
    vector_registers=32,
    fma=True,
    fma_per_cycle=2,
    fma_latency=4,
    l1_bytes=64 * 1024,
    l2_bytes=1024 * 1024,
    l3_bytes=4 * 1024 * 1024,
    cores=4,
    kind="cuda",
    gpu=Gpu(arch="sm_72", processors=6, tensor_cores=("float16", "int8")),
)
# Cortex-A78AE beside Ampere.
_ORIN = replace(
    _XAVIER,
    name="cuda-sm_87",
    cpu="cortex-a78ae",
    l2_bytes=256 * 1024,
    l3_bytes=2 * 1024 * 1024,
    cores=6,
    gpu=Gpu(arch="sm_87", processors=8, tensor_cores=("float16", "int8")),
)
_H100 = Target(
    name="cuda-sm_90",
    triple="x86_64-linux-gnu",
    cpu="x86-64-v3",
    required=X86_LEVELS["x86-64-v3"],
    vector_bits=256,
    vector_registers=16,
    fma=True,
    fma_per_cycle=2,
    fma_latency=4,
    l1_bytes=32 * 1024,
    l2_bytes=1024 * 1024,
    l3_bytes=32 * 1024 * 1024,
    cores=8,
    kind="cuda",
    gpu=Gpu(arch="sm_90", processors=132, tensor_cores=("float16", "int8")),
)
# Source for a driver that compiles it on the device. The limits are those that every implementation grants: OpenCL's
# and Metal's usual 256 threads, WebGPU's default limits (256 invocations, 16 KiB).
_SOURCE = Target(
    name="opencl",
    triple="aarch64-linux-gnu",
    cpu="generic",
    required=("asimd",),
    fma=True,
    vector_registers=32,
    cores=4,
    kind="opencl",
    gpu=Gpu(arch="", shared_bytes=32 * 1024, registers=16384, max_threads=256, warp=1, processors=4),
)
_METAL = replace(_SOURCE, name="metal", triple="arm64-apple-macos", cpu="apple-m1", kind="metal")
_WEBGPU = replace(
    _SOURCE,
    name="webgpu",
    triple="wasm32-unknown-unknown",
    cpu="",
    features=("+simd128",),
    fma=False,
    vector_registers=16,
    required=(),
    kind="webgpu",
    gpu=Gpu(arch="", shared_bytes=16 * 1024, registers=16384, max_threads=256, warp=1, processors=4),
)

NO_GENERATOR: dict[str, str] = {"vulkan": "TVM's wheel is built without its Vulkan code generator"}
"""GPU interface → why there is no target for it."""

GPU_PRESETS: dict[str, Target] = {target.name: target for target in (_XAVIER, _ORIN, _H100, _SOURCE, _METAL, _WEBGPU)}
"""Name → machine with a GPU."""

GPU_ALIASES: dict[str, str] = {
    "jetson-xavier": "cuda-sm_72",
    "jetson-xavier-nx": "cuda-sm_72",
    "jetson-agx-xavier": "cuda-sm_72",
    "jetson-orin-nano": "cuda-sm_87",
    "jetson-orin-nx": "cuda-sm_87",
    "jetson-agx-orin": "cuda-sm_87",
}
"""Board → name of a preset."""
