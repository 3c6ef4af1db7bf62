"""Products and convolutions of bytes on a GPU: their CUDA text, run on the CPU, gives exactly what is defined."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, TensorType, Value
from edgeir.ir.dtype import numpy_dtype
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.build import build
from edgeir.lowering.cuda_binary import compile_cuda, nvrtc_missing
from edgeir.lowering.gpu import device_source
from edgeir.lowering.module import plan
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passmanager import PassContext
from edgeir.schedules import gpu_integer, gpu_integer_tensor_core
from edgeir.schedules.select import select
from edgeir.schedules.task import Task
from edgeir.targets import Target, lookup
from tests.gpu.emulated_graph import run_emulated
from tests.gpu.emulator import EmulatedGpu, compiled
from tests.lowering import integer_networks, integer_products
from tests.lowering.integer_networks import conv_network, integer_convolutions
from tests.lowering.integer_products import product_network, products

TENSOR = lookup("cuda-sm_87")
assert TENSOR.gpu is not None
PLAIN = replace(TENSOR, gpu=replace(TENSOR.gpu, tensor_cores=()))
"""The same GPU without tensor cores."""
INSTRUCTION = {"gpu_integer_tensor_core": "wmma::mma_sync", "gpu_integer": "__dp4a"}
ATTRIBUTES = {"strides": (1, 1), "padding": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1}
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
needs_nvrtc = pytest.mark.skipif(bool(nvrtc_missing("sm_87")), reason="needs NVRTC (pip install edgeir[cuda])")


def tasks_of(graph: Graph) -> list[Task]:
    return [step.lowering.task for step in plan(graph) if step.lowering is not None]


def fused(graph: Graph) -> Graph:
    FuseOperators().run(graph, PassContext())
    return graph


def check(graph: Graph, inputs: dict[str, np.ndarray], target: Target, folder: Path, template: str = "") -> str:
    """The CUDA text; the only kernel with an anchor is scheduled by `template` and gives exactly the right numbers."""
    expected = evaluate(graph, inputs)
    (name,) = [select(task, target).name for task in tasks_of(graph) if task.anchor.endswith("_integer")]
    got = run_emulated(graph, inputs, target, folder)
    source = (folder / "kernels.cc").read_text()
    for output, array in expected.items():
        np.testing.assert_array_equal(got[output], array)
    kind = name.rpartition("_")[0]
    assert not template or kind == template
    if kind in INSTRUCTION:
        assert INSTRUCTION[kind] in source  # otherwise the schedule did not apply, and a slow kernel took its place
    return source


def of_type(numbers: dict[str, Any], dtype: str, zero: str) -> dict[str, Any]:
    return (
        numbers | {"dtype": dtype, zero: -7} if dtype == "int8" and numbers[zero] == 131 else numbers | {"dtype": dtype}
    )


@needs_compiler
@pytest.mark.parametrize(
    ("target", "dtype", "template"),
    [
        (TENSOR, "int8", "gpu_integer_tensor_core"),
        pytest.param(PLAIN, "int8", "gpu_integer", marks=pytest.mark.slow),
        (TENSOR, "uint8", "gpu_integer"),  # tensor cores want both of one signedness
    ],
    ids=["tensor cores", "signed", "mixed"],
)
@pytest.mark.parametrize("name", integer_networks.SHAPES)
def test_convolutions(name: str, target: Target, dtype: str, template: str, tmp_path: Path) -> None:
    numbers = integer_networks.BASE | integer_networks.SHAPES[name]
    graph, inputs = conv_network(of_type(numbers, dtype, "x_zero"), 1, 0)
    few = name == "ragged"  # 7 output channels
    check(fused(graph), inputs, target, tmp_path, "gpu_integer" if few else template)


@needs_compiler
@pytest.mark.parametrize("target", [TENSOR, PLAIN], ids=["tensor cores", "plain"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize(
    "shape",
    [
        (9, 32, 45),
        (1, 64, 96),
        pytest.param((3, 53, 18), marks=pytest.mark.slow),
        pytest.param((37, 53, 18), marks=pytest.mark.slow),
        pytest.param((70, 130, 90), marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("transposed", [False, True])
def test_products(shape: tuple[int, int, int], transposed: bool, dtype: str, target: Target, tmp_path: Path) -> None:
    numbers = integer_products.BASE | {"shape": shape, "transposed": transposed}
    graph, inputs = product_network(of_type(numbers, dtype, "zero"), 2)
    tensor = target is TENSOR and dtype == "int8" and shape[0] >= 8
    check(fused(graph), inputs, target, tmp_path, "gpu_integer_tensor_core" if tensor else "gpu_integer")


@needs_compiler
@pytest.mark.parametrize("target", [TENSOR, PLAIN], ids=["tensor cores", "plain"])
@pytest.mark.parametrize(
    ("a", "b", "flags"),
    [
        ((2, 3, 17, 20), (2, 3, 11, 20), (False, True)),  # queries and keys: rows of both are whole words
        ((3, 21, 18), (3, 18, 9), (False, False)),
        ((40, 21), (40, 23), (True, False)),
    ],
)
@pytest.mark.parametrize("dtypes", [("int8", "int8"), ("uint8", "uint8"), ("int8", "uint8")])
def test_products_of_two_activations(
    a: tuple[int, ...],
    b: tuple[int, ...],
    flags: tuple[bool, bool],
    dtypes: tuple[str, str],
    target: Target,
    tmp_path: Path,
) -> None:
    rng, graph = np.random.default_rng(5), Graph("product")
    inputs = {}
    for name, shape, dtype in (("a", a, dtypes[0]), ("b", b, dtypes[1])):
        graph.add_input(name, TensorType(dtype, shape))
        inputs[name] = rng.integers(-128, 128, shape).astype(numpy_dtype(dtype))
    attributes = {"transpose_a": flags[0], "transpose_b": flags[1]}
    graph.set_outputs([("y", graph.add_node("matmul_integer", [*graph.inputs, None, None], attributes).output)])
    same = target is TENSOR and dtypes[0] == dtypes[1]
    source = check(graph, inputs, target, tmp_path, "gpu_integer_tensor_core" if same else "gpu_integer")
    if same:
        assert f"16, {'signed char' if dtypes[0] == 'int8' else 'uchar'}" in source


@needs_compiler
@pytest.mark.parametrize("target", [TENSOR, PLAIN], ids=["tensor cores", "plain"])
@pytest.mark.parametrize("kind", ["table", "int4", "uint8"])
def test_weights_of_other_kinds(kind: str, target: Target, tmp_path: Path) -> None:
    rng, graph = np.random.default_rng(6), Graph("conv")
    x = graph.add_input("x", TensorType("uint8" if kind == "uint8" else "int8", (1, 10, 7, 9)))
    shape = (13, 10, 3, 3)
    w: Value
    if kind == "table":
        codes = graph.add_constant(rng.integers(0, 16, shape).astype(np.uint8).astype(numpy_dtype("uint4")), "codes")
        powers = np.array([0, 1, 2, 4, 8, 16, 32, 64], np.int8)
        w = graph.add_node("lookup", [codes, graph.add_constant(np.concatenate([powers, -powers]), "t")]).output
    else:
        low, high = (-8, 8) if kind == "int4" else (0, 256)
        w = graph.add_constant(rng.integers(low, high, shape).astype(numpy_dtype(kind)), "w")
    zero = graph.add_constant(np.array(5, numpy_dtype(x.type.dtype)), "z")
    graph.set_outputs([("y", graph.add_node("conv_integer", [x, w, None, zero], ATTRIBUTES).output)])
    inputs = {"x": rng.integers(-128, 128, x.type.static_shape).astype(numpy_dtype(x.type.dtype))}
    check(fused(graph), inputs, target, tmp_path, "gpu_integer_tensor_core" if target is TENSOR else "gpu_integer")


@needs_compiler
def test_a_convolution_along_a_line(tmp_path: Path) -> None:
    rng, graph = np.random.default_rng(7), Graph("line")
    x = graph.add_input("x", TensorType("int8", (2, 12, 31)))
    w = graph.add_constant(rng.integers(-128, 128, (9, 12, 5)).astype(np.int8), "w")
    attributes = {"strides": (2,), "padding": (2, 1), "dilations": (1,), "groups": 1}
    graph.set_outputs([("y", graph.add_node("conv_integer", [x, w], attributes).output)])
    check(
        graph, {"x": rng.integers(-128, 128, (2, 12, 31)).astype(np.int8)}, TENSOR, tmp_path, "gpu_integer_tensor_core"
    )


@needs_compiler
@pytest.mark.slow
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(numbers=integer_convolutions())
def test_random_convolutions(tmp_path_factory: pytest.TempPathFactory, numbers: dict[str, Any]) -> None:
    for target in (TENSOR, PLAIN):
        graph, inputs = conv_network(numbers, 3, 0)
        check(fused(graph), inputs, target, tmp_path_factory.mktemp("kernel"))


@needs_compiler
@pytest.mark.slow
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(numbers=products())
def test_random_products(tmp_path_factory: pytest.TempPathFactory, numbers: dict[str, Any]) -> None:
    for target in (TENSOR, PLAIN):
        graph, inputs = product_network(numbers, 4)
        check(fused(graph), inputs, target, tmp_path_factory.mktemp("kernel"))


def product_task() -> tuple[Task, list[np.ndarray], np.ndarray]:
    """A product of ragged sizes, its operands, and the result in exact arithmetic."""
    rng = np.random.default_rng(8)
    a, b = (rng.integers(-128, 128, shape).astype(np.int8) for shape in ((70, 150), (150, 75)))
    graph = Graph("product")
    operands = [graph.add_input("a", TensorType("int8", a.shape)), graph.add_constant(b, "b")]
    graph.set_outputs([("y", graph.add_node("matmul_integer", operands, {}).output)])
    (task,) = tasks_of(graph)
    return task, [a, b], a.astype(np.int32) @ b.astype(np.int32)


@needs_compiler
@pytest.mark.parametrize(
    ("template", "knobs", "threads"),
    [
        (gpu_integer_tensor_core, (1, 1, 1, 1, 128), (32, 1, 1)),
        (gpu_integer_tensor_core, (2, 2, 2, 2, 32), (32, 4, 1)),
        (gpu_integer_tensor_core, (1, 4, 4, 1, 64), (32, 4, 1)),
        (gpu_integer_tensor_core, (4, 1, 1, 2, 16), (32, 4, 1)),
        (gpu_integer, (16, 16, 4, 4, 16), (16, 16, 1)),
        (gpu_integer, (4, 32, 8, 2, 32), (32, 4, 1)),
        (gpu_integer, (8, 8, 1, 8, 8), (8, 8, 1)),
    ],
)
def test_every_way_to_share_a_tile(
    template: Any, knobs: tuple[int, ...], threads: tuple[int, ...], tmp_path: Path
) -> None:
    task, operands, expected = product_task()
    matmul = template.TensorCoreIntegerMatmul if template is gpu_integer_tensor_core else template.GpuIntegerMatmul
    kernel = matmul().apply(task, dict(zip(template.KNOBS, knobs, strict=True)), TENSOR)
    gpu = EmulatedGpu({task.name: kernel.func}, TENSOR, tmp_path)
    result = np.full(expected.shape, -1, np.int32)
    gpu(task.name, *[kernel.pack.get(i, lambda array: array)(array) for i, array in enumerate(operands)], result)
    ((_, _, block),) = gpu.launches
    assert block == threads and INSTRUCTION[matmul.name.rpartition("_")[0]] in gpu.source
    np.testing.assert_array_equal(result, expected)


@needs_compiler
@pytest.mark.parametrize("barrier", range(4))
def test_every_barrier_is_needed(barrier: int, tmp_path: Path) -> None:
    """The emulator runs warps one after another, so a kernel that needed no barrier would pass without it."""
    task, operands, expected = product_task()
    config = dict(zip(gpu_integer_tensor_core.KNOBS, (2, 2, 2, 2, 32), strict=True))
    kernel = gpu_integer_tensor_core.TensorCoreIntegerMatmul().apply(task, config, TENSOR)
    gpu = EmulatedGpu({task.name: kernel.func}, TENSOR, tmp_path)
    parts = gpu.source.split("__syncthreads();")
    assert len(parts) == 5
    parts[barrier : barrier + 2] = ["".join(parts[barrier : barrier + 2])]
    (tmp_path / "broken").mkdir()
    gpu._library = compiled("__syncthreads();".join(parts), tmp_path / "broken")
    result = np.zeros_like(expected)
    gpu(task.name, *[kernel.pack.get(i, lambda array: array)(array) for i, array in enumerate(operands)], result)
    assert not np.array_equal(result, expected)


@pytest.mark.parametrize("knobs", [(4, 4, 4, 4, 64), (2, 2, 2, 2, 7)])
def test_wrong_knobs_are_refused(knobs: tuple[int, ...]) -> None:
    task, _, _ = product_task()
    with pytest.raises(EdgeIRError):
        gpu_integer_tensor_core.TensorCoreIntegerMatmul().apply(
            task, dict(zip(gpu_integer_tensor_core.KNOBS, knobs, strict=True)), TENSOR
        )
    with pytest.raises(EdgeIRError):
        gpu_integer.GpuIntegerMatmul().apply(task, {**dict.fromkeys(gpu_integer.KNOBS, 4), "depth": 5}, TENSOR)


def test_others_take_the_fallback() -> None:
    task, _, _ = product_task()
    assert select(task, lookup("opencl")).name == "gpu_fallback"  # no instruction
    depthwise, _ = conv_network(integer_networks.BASE | {"channels": (12, 12), "groups": 12}, 0, 0)
    narrow, _ = product_network(integer_products.BASE | {"shape": (9, 64, 3)})
    for graph in (depthwise, narrow):
        names = {select(task, TENSOR).name for task in tasks_of(fused(graph)) if task.anchor.endswith("_integer")}
        assert names == {"gpu_fallback"}


@needs_nvrtc
@pytest.mark.parametrize(
    "arch", ["sm_87", pytest.param("sm_75", marks=pytest.mark.slow), pytest.param("sm_90", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    ("target", "dtype", "instruction"),
    [
        (TENSOR, "int8", b"wmma.mma.sync.aligned.row.col.m16n16k16.s32.s8.s8.s32"),
        (PLAIN, "int8", b"dp4a.s32.s32"),
        (TENSOR, "uint8", b"dp4a.s32.s32"),
    ],
)
def test_machine_code(arch: str, target: Target, dtype: str, instruction: bytes) -> None:
    graph, _ = conv_network(of_type(integer_networks.BASE, dtype, "x_zero"), 1, 0)
    source = device_source(build(fused(graph), target).executable)
    assert compile_cuda(source, arch).startswith(b"\x7fELF")
    assert instruction in compile_cuda(source, arch, "ptx")
