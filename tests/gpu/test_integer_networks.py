"""Quantized networks for CUDA: signed activations, and whole networks run on the CPU, or on a GPU if there is one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from tvm import te, tirx

import edgeir
from edgeir.compiler import load_model
from edgeir.ir import Builder, Graph
from edgeir.ir.evaluate import evaluate
from edgeir.ir.shapes import fix_shapes
from edgeir.lowering.build import build
from edgeir.lowering.cuda_binary import compile_cuda, nvrtc_missing
from edgeir.lowering.gpu import device_source
from edgeir.lowering.module import plan
from edgeir.passes.pipelines import default_pipeline
from edgeir.passes.quantization.insert_qdq import activation_dtype
from edgeir.passes.quantization.quantize_dynamic import QuantizeDynamic
from edgeir.passes.quantization.quantize_weights import sums_saturate
from edgeir.passmanager import PassContext
from edgeir.runtime import Session
from edgeir.schedules.gpu_stages import schedule_for_gpu
from edgeir.schedules.select import select
from edgeir.targets import Target, lookup
from tests.gpu.emulated_graph import run_emulated
from tests.gpu.emulator import EmulatedGpu
from tests.gpu.test_device import device_target
from tests.lowering import integer_networks, integer_products
from tests.lowering.integer_networks import conv_network
from tests.lowering.integer_products import product_network
from tests.lowering.test_compute import assert_close
from tests.passes.quantization.qdq_graphs import qdq_graphs

ORIN, HOPPER = lookup("cuda-sm_87"), lookup("cuda-sm_90")
MODEL = Path(__file__).parents[2] / "edgeir" / "models" / "mnist_cnn.onnx"
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
needs_nvrtc = pytest.mark.skipif(bool(nvrtc_missing("sm_87")), reason="needs NVRTC (pip install edgeir[cuda])")


def lowered(graph: Graph, target: Target) -> Graph:
    """A copy after the default pipeline."""
    copy = graph.copy()
    default_pipeline(target).run(copy, PassContext(target=target, keep_reproducer=False))
    return copy


def templates(graph: Graph, target: Target) -> list[str]:
    """The templates of integer convolutions and products."""
    tasks = [step.lowering.task for step in plan(graph) if step.lowering is not None]
    return [select(task, target).name for task in tasks if task.anchor.endswith("_integer")]


def quantized_digits(target: Target) -> tuple[Graph, dict[str, np.ndarray]]:
    """A quantized classifier of four digits, and digits."""
    digits = np.load(MODEL.with_name("digits.npz"))
    images = next(array for array in (digits[key] for key in digits.files) if array.ndim >= 3)
    images = images[:32].reshape(-1, 4, 1, 28, 28).astype(np.float32)
    graph = fix_shapes(load_model(MODEL), {"input": (4, 1, 28, 28)})
    samples = [{"input": image} for image in images]
    return edgeir.quantize(graph, samples, target=target, compare_outputs=False).graph, samples[0]


@pytest.mark.parametrize("target", [ORIN, HOPPER], ids=["Jetson", "x86 host"])
def test_what_the_machine_beside_the_gpu_wants_does_not_matter(target: Target) -> None:
    assert activation_dtype("auto", target) == "int8"
    assert not sums_saturate(target)


@pytest.mark.parametrize("given_dtype", ["uint8", "int8"])
@pytest.mark.parametrize("target", [ORIN, HOPPER], ids=["Jetson", "x86 host"])
def test_activations_are_signed(target: Target, given_dtype: str) -> None:
    rng, builder = np.random.default_rng(0), Builder("net")
    x = builder.input("x", "float32[1, 8, 9, 9]")
    scale, zero = np.float32(0.02), np.array(3, given_dtype)
    w = builder.dequantize(
        rng.integers(-127, 128, (16, 8, 3, 3)).astype(np.int8), np.full((16, 1, 1, 1), 0.01, np.float32)
    )
    q = builder.dequantize(builder.quantize(x, scale, zero), scale, zero)
    y = builder.conv(q, w, None, strides=(1, 1), padding=(1, 1, 1, 1), dilations=(1, 1), groups=1)
    y = builder.dequantize(builder.quantize(y, np.float32(0.1), zero), np.float32(0.1), zero)
    graph = lowered(builder.outputs(y=y), target)
    assert templates(graph, target) == ["gpu_integer_tensor_core_conv"]


@needs_compiler
def test_a_quantized_network_on_the_emulated_gpu(tmp_path: Path) -> None:
    graph, inputs = quantized_digits(ORIN)
    graph = lowered(graph, ORIN)
    found = templates(graph, ORIN)
    assert found and any("tensor_core" in name for name in found)
    got = run_emulated(graph, inputs, ORIN, tmp_path)
    for name, array in evaluate(graph, inputs).items():
        assert_close(got[name], array, 1e-6)


@needs_compiler
def test_inputs_quantized_over_their_own_range(tmp_path: Path) -> None:
    """The zero point of the unsigned input, computed when the graph runs, becomes that of a signed one."""
    rng, builder = np.random.default_rng(1), Builder("net")
    x = builder.input("x", "float32[24, 96]")
    y = builder.relu(builder.matmul(x, rng.standard_normal((96, 80)).astype(np.float32)))
    graph = builder.outputs(y=builder.matmul(y, rng.standard_normal((80, 64)).astype(np.float32)))
    QuantizeDynamic().run(graph, PassContext(target=ORIN))
    inputs = {"x": rng.standard_normal((24, 96)).astype(np.float32)}
    expected = evaluate(graph, inputs)["y"]
    graph = lowered(graph, ORIN)
    assert templates(graph, ORIN) == ["gpu_integer_tensor_core_matmul"] * 2
    np.testing.assert_array_equal(run_emulated(graph, inputs, ORIN, tmp_path)["y"], expected)


@needs_compiler
def test_a_number_that_becomes_constant_in_the_compiler(tmp_path: Path) -> None:
    """TVM makes 0 of the difference of a number and itself, and then writes the address of a constant for its bits."""
    x: Any = te.placeholder((9,), "float32", name="x")
    magic = tirx.const(1.5 * 2**23, "float32")
    y: Any = te.compute((9,), lambda i: tirx.reinterpret("int32", x[i] - x[i] + magic), name="y")
    function: Any = te.create_prim_func([x, y]).with_attr("global_symbol", "bits")
    got = np.zeros(9, np.int32)
    EmulatedGpu({"bits": schedule_for_gpu(function, ORIN)}, ORIN, tmp_path)("bits", np.ones(9, np.float32), got)
    np.testing.assert_array_equal(got, np.full(9, 1.5 * 2**23, np.float32).view(np.int32))


@needs_nvrtc
@pytest.mark.parametrize("target", [ORIN, pytest.param(HOPPER, marks=pytest.mark.slow)], ids=["Jetson", "x86 host"])
def test_a_quantized_network_compiles_to_a_cubin(target: Target) -> None:
    assert target.gpu is not None
    graph, _ = quantized_digits(target)
    source = device_source(build(lowered(graph, target), target).executable)
    assert "wmma::mma_sync" in source
    assert compile_cuda(source, target.gpu.arch).startswith(b"\x7fELF")


@needs_compiler
@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(case=qdq_graphs(3))
def test_random_quantized_networks(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[Graph, dict[str, np.ndarray]]
) -> None:
    graph, inputs = lowered(case[0], ORIN), case[1]
    got = run_emulated(graph, inputs, ORIN, tmp_path_factory.mktemp("kernels"))
    for name, array in evaluate(graph, inputs).items():
        # A product of floats may be rounded once where its definition is rounded twice, or the other way round.
        assert np.abs(got[name].astype(np.int64) - array.astype(np.int64)).max(initial=0) <= 1


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("name", [*integer_networks.SHAPES, *(f"product {name}" for name in integer_products.SHAPES)])
def test_a_gpu_gives_exactly_the_definition(name: str, dtype: str, tmp_path: Path) -> None:
    target = device_target()
    kind, _, shape = name.rpartition(" ")
    if kind:
        numbers = integer_products.BASE | integer_products.SHAPES[shape] | {"dtype": dtype}
        numbers["zero"] = -7 if dtype == "int8" and isinstance(numbers["zero"], int) else numbers["zero"]
        graph, inputs = product_network(numbers, 1)
    else:
        numbers = integer_networks.BASE | integer_networks.SHAPES[shape] | {"dtype": dtype}
        # Without a residual: the GPU's compiler may add that in the same rounding as it multiplies.
        epilogue = "none" if numbers["epilogue"] == "none" else "quantize"
        numbers |= {"x_zero": -7 if dtype == "int8" else 131, "epilogue": epilogue}
        graph, inputs = conv_network(numbers, 1, 0)
    edgeir.compile(graph, target, output=tmp_path / "m")
    got = Session(tmp_path / "m").run(inputs)
    for output, array in evaluate(graph, inputs).items():
        np.testing.assert_array_equal(got[output], array)


@pytest.mark.gpu
def test_a_quantized_network_on_a_gpu(tmp_path: Path) -> None:
    target = device_target()
    graph, inputs = quantized_digits(lookup(target))
    edgeir.compile(graph, target, output=tmp_path / "m")
    got = Session(tmp_path / "m").run(inputs)
    for name, array in evaluate(lowered(graph, lookup(target)), inputs).items():
        assert_close(got[name], array, 1e-4)
