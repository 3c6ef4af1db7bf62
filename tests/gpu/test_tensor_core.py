"""float16 products on tensor cores: their CUDA text, run lane by lane on the CPU, against products in float64."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, TensorType
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.build import build
from edgeir.lowering.cuda_binary import compile_cuda, nvrtc_missing
from edgeir.lowering.gpu import device_source
from edgeir.lowering.module import plan
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passmanager import PassContext
from edgeir.schedules.gpu_tensor_core import KNOBS, TensorCoreMatmul
from edgeir.schedules.select import select
from edgeir.schedules.task import Task
from edgeir.targets import Target, lookup
from tests.gpu.emulated_graph import run_emulated
from tests.gpu.emulator import EmulatedGpu, compiled

TARGET = lookup("cuda-sm_87")
MATMUL, CONV = "gpu_tensor_core_matmul", "gpu_tensor_core_conv"


def no_half() -> bool:
    """Whether g++ is missing or has no 16-bit float."""
    if shutil.which("g++") is None:
        return True
    done = subprocess.run(
        ["g++", "-std=c++17", "-fsyntax-only", "-xc++", "-"], input=b"_Float16 x;", capture_output=True, check=False
    )
    return done.returncode != 0


needs_half = pytest.mark.skipif(no_half(), reason="needs g++ with _Float16")
needs_nvrtc = pytest.mark.skipif(bool(nvrtc_missing("sm_87")), reason="needs NVRTC (pip install edgeir[cuda])")


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float16)


def product_graph(
    a: tuple[int, ...],
    b: tuple[int, ...],
    dtype: str = "float16",
    constant: bool = False,
    attributes: Mapping[str, bool] | None = None,
) -> Graph:
    graph = Graph("product")
    x = graph.add_input("a", TensorType(dtype, a))
    y = (
        graph.add_constant(random(*b, seed=1).astype(dtype), "b")
        if constant
        else graph.add_input("b", TensorType(dtype, b))
    )
    graph.set_outputs([("y", graph.add_node("matmul", [x, y], dict(attributes or {})).output)])
    return graph


def task_of(graph: Graph) -> Task:
    (step,) = plan(graph)
    assert step.lowering is not None
    return step.lowering.task


def assert_rounded(got: np.ndarray, exact: np.ndarray, depth: int) -> None:
    """Equal but for float32 sums and one rounding to float16 (half a unit in the last of 11 bits)."""
    error = np.abs(got.astype(np.float64) - exact)
    bound = 2.0**-11 * np.abs(exact) + 2.0**-24 * depth * 8
    assert got.shape == exact.shape and np.all(error <= bound * 1.001), float((error / bound).max())


@needs_half
@pytest.mark.parametrize(
    ("a", "b", "attributes"),
    [
        ((16, 16), (16, 16), {}),
        ((37, 53), (53, 45), {}),  # no size is a multiple of a fragment's
        ((8, 70), (70, 130), {}),
        ((100, 33), (33, 136), {}),
        ((21, 40), (23, 40), {"transpose_b": True}),
        ((40, 21), (40, 23), {"transpose_a": True}),
        ((3, 20, 33), (3, 33, 18), {}),
        ((2, 3, 11, 17), (17, 19), {}),
    ],
)
def test_products_of_ragged_sizes(
    a: tuple[int, ...], b: tuple[int, ...], attributes: dict[str, bool], tmp_path: Path
) -> None:
    graph = product_graph(a, b, attributes=attributes)
    assert select(task_of(graph), TARGET).name == MATMUL
    inputs = {"a": random(*a), "b": random(*b, seed=1)}
    left, right = (array.astype(np.float64) for array in inputs.values())
    left = left.swapaxes(-1, -2) if attributes.get("transpose_a") else left
    right = right.swapaxes(-1, -2) if attributes.get("transpose_b") else right
    got = run_emulated(graph, inputs, TARGET, tmp_path)
    assert "wmma::mma_sync" in (tmp_path / "kernels.cc").read_text()
    assert_rounded(got["y"], left @ right, left.shape[-1])


@needs_half
@pytest.mark.parametrize(
    "knobs", [(1, 1, 1, 1, 16), (2, 2, 2, 2, 32), (1, 4, 4, 1, 64), (4, 1, 1, 2, 16), (2, 1, 4, 2, 32)]
)
def test_every_way_to_share_a_tile_among_warps(knobs: tuple[int, ...], tmp_path: Path) -> None:
    graph = product_graph((70, 90), (90, 75))
    task, config = task_of(graph), dict(zip(KNOBS, knobs, strict=True))
    function = TensorCoreMatmul().apply(task, config, TARGET).func
    gpu = EmulatedGpu({task.name: function}, TARGET, tmp_path)
    assert gpu.source.count("wmma::mma_sync") >= 1
    a, b, y = random(70, 90), random(90, 75, seed=1), np.full((70, 75), np.nan, np.float16)
    gpu(task.name, a, b, y)
    (_, _, block), *rest = gpu.launches
    assert not rest and block == (32, knobs[0] * knobs[1], 1)
    assert_rounded(y, a.astype(np.float64) @ b.astype(np.float64), 90)


@needs_half
@pytest.mark.parametrize("barrier", [0, 1, 2])
def test_the_emulator_notices_a_missing_barrier(barrier: int, tmp_path: Path) -> None:
    task = task_of(product_graph((70, 90), (90, 75)))
    function = TensorCoreMatmul().apply(task, dict(zip(KNOBS, (2, 2, 2, 2, 32), strict=True)), TARGET).func
    gpu = EmulatedGpu({task.name: function}, TARGET, tmp_path)
    parts = gpu.source.split("__syncthreads();")
    assert len(parts) == 4
    (tmp_path / "broken").mkdir()
    parts[barrier : barrier + 2] = ["".join(parts[barrier : barrier + 2])]
    gpu._library = compiled("__syncthreads();".join(parts), tmp_path / "broken")
    a, b, y = random(70, 90), random(90, 75, seed=1), np.zeros((70, 75), np.float16)
    gpu(task.name, a, b, y)
    assert np.nanmax(np.abs(y - a.astype(np.float64) @ b.astype(np.float64))) > 1


@needs_half
def test_an_epilogue_is_applied_to_the_tile(tmp_path: Path) -> None:
    graph = product_graph((37, 53), (53, 45), constant=True)
    bias = graph.add_constant(random(45, seed=2), "bias")
    total = graph.add_node("add", [graph.outputs[0], bias]).output
    graph.set_outputs([("y", graph.add_node("relu", [total]).output)])
    FuseOperators().run(graph, PassContext())
    assert select(task_of(graph), TARGET).name == MATMUL
    inputs = {"a": random(37, 53)}
    got = run_emulated(graph, inputs, TARGET, tmp_path)["y"]
    source = (tmp_path / "kernels.cc").read_text()
    assert "wmma::mma_sync" in source and source.count("__launch_bounds__") == 2  # one kernel, declared and defined
    np.testing.assert_allclose(got, evaluate(graph, inputs)["y"], rtol=2e-3, atol=1e-2)


@needs_half
def test_convolutions(tmp_path: Path) -> None:
    graph = Graph("conv")
    x = graph.add_input("x", TensorType("float16", (2, 7, 9, 11)))
    weight = graph.add_constant(random(19, 7, 3, 3, seed=1), "w")
    attributes = {"strides": (2, 1), "padding": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1}
    graph.set_outputs([("y", graph.add_node("conv", [x, weight], attributes).output)])
    assert select(task_of(graph), TARGET).name == CONV
    inputs = {"x": random(2, 7, 9, 11)}
    got = run_emulated(graph, inputs, TARGET, tmp_path)["y"]
    assert "wmma::mma_sync" in (tmp_path / "kernels.cc").read_text()
    np.testing.assert_allclose(got, evaluate(graph, inputs)["y"], rtol=2e-3, atol=1e-2)


@needs_half
@pytest.mark.parametrize(("offset", "stride", "fault"), [(0, 24, 0), (16, 24, 0), (8, 24, 2), (0, 20, 2)])
def test_the_emulator_notices_a_matrix_that_is_not_aligned(
    offset: int, stride: int, fault: int, tmp_path: Path
) -> None:
    source = f"""extern "C" __global__ void load(half* p) {{
  __shared__ alignas(64) half tile[1024];
  nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, half, nvcuda::wmma::row_major> f;
  nvcuda::wmma::load_matrix_sync(f, tile + {offset}, {stride});
}}"""
    one, warp = (ctypes.c_uint * 3)(1, 1, 1), (ctypes.c_uint * 3)(32, 1, 1)
    assert compiled(source, tmp_path).run_load((ctypes.c_void_p * 1)(), one, warp) == fault


@needs_nvrtc
@pytest.mark.parametrize("arch", ["sm_72", "sm_87"])
def test_machine_code(arch: str) -> None:
    target = lookup(f"cuda-{arch}")
    source = device_source(build(product_graph((128, 96), (96, 160), constant=True), target).executable)
    assert "wmma::mma_sync" in source
    # NVRTC 13 begins at sm_75; the text is the same for every architecture.
    assert compile_cuda(source, "sm_87").startswith(b"\x7fELF")
    assert b"wmma.mma.sync" in compile_cuda(source, "sm_87", "ptx")


@pytest.mark.parametrize(
    ("a", "b", "dtype", "target"),
    [
        ((64, 64), (64, 64), "float32", TARGET),
        ((64, 8), (8, 64), "float16", TARGET),
        ((4, 64), (64, 64), "float16", TARGET),
        ((64, 64), (64, 64), "float16", lookup("opencl")),
        ((64, 64), (64, 64), "float16", lookup("x86-64-v3")),
    ],
)
def test_others_stay_on_ordinary_units(a: tuple[int, ...], b: tuple[int, ...], dtype: str, target: Target) -> None:
    assert not TensorCoreMatmul().match(task_of(product_graph(a, b, dtype)), target)


@pytest.mark.parametrize("knobs", [(4, 4, 4, 4, 64), (2, 2, 2, 2, 7), (1, 1, 1, 1, 64)])
def test_wrong_knobs_are_refused(knobs: tuple[int, ...]) -> None:
    with pytest.raises(EdgeIRError):
        TensorCoreMatmul().apply(
            task_of(product_graph((64, 64), (64, 64))), dict(zip(KNOBS, knobs, strict=True)), TARGET
        )
