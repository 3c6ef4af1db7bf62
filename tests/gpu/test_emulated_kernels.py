"""Kernels scheduled for CUDA, run thread by thread on the CPU, against the reference evaluation.

The emulator has no 16-bit and 8-bit floats; those kernels are only compiled (test_compile.py).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from edgeir.compiler import load_model
from edgeir.ir import Graph, TensorType
from edgeir.ir.evaluate import evaluate
from edgeir.ir.shapes import fix_shapes
from edgeir.lowering.module import plan
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext
from edgeir.schedules.select import select
from edgeir.targets import lookup
from tests.gpu.emulated_graph import run_emulated
from tests.gpu.op_graphs import GROUPS, op_graph
from tests.lowering.op_case import OpCase
from tests.lowering.test_compute import assert_close

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
MODEL = Path(__file__).parents[2] / "edgeir" / "models" / "mnist_cnn.onnx"
TARGET = lookup("cuda-sm_87")
QUICK = ("add", "conv", "matmul", "reduce_sum", "cum_sum", "scatter_nd")


def emulated(case: OpCase) -> bool:
    return not any(name in str(case) for name in ("float16", "bfloat", "float8"))


@pytest.mark.parametrize(
    "op",
    [
        op if op in QUICK else pytest.param(op, marks=pytest.mark.slow)
        for op in GROUPS
        if any(map(emulated, GROUPS[op]))
    ],
)
def test_operator_on_the_emulated_gpu_agrees_with_its_definition(op: str, tmp_path: Path) -> None:
    graph, inputs = op_graph(op, emulated)
    expected = evaluate(graph, inputs)
    got = run_emulated(graph, inputs, TARGET, tmp_path)
    for name, array in expected.items():
        assert_close(got[name], array, GROUPS[op][int(name.split()[0])].tolerance)


def conv_graph(shape: tuple[int, ...], weight: tuple[int, ...], groups: int = 1, stride: int = 1) -> Graph:
    """A convolution with bias, a residual addition and an activation, fused."""
    rng = np.random.default_rng(3)
    graph = Graph("conv")
    x = graph.add_input("x", TensorType("float32", shape))
    w = graph.add_constant(rng.standard_normal(weight).astype(np.float32), "w")
    b = graph.add_constant(rng.standard_normal(weight[0]).astype(np.float32), "b")
    padding = (weight[2] // 2,) * 4
    attributes = {"strides": (stride, stride), "padding": padding, "dilations": (1, 1), "groups": groups}
    y = graph.add_node("conv", [x, w, b], attributes).output
    other = graph.add_input("other", TensorType("float32", y.type.static_shape))
    total = graph.add_node("add", [y, other]).output
    graph.set_outputs([("y", graph.add_node("relu", [total]).output)])
    FuseOperators().run(graph, PassContext())
    return graph


@pytest.mark.parametrize(
    ("shape", "weight", "groups", "stride", "template"),
    [
        ((1, 7, 13, 11), (19, 7, 3, 3), 1, 1, "gpu_conv"),  # no size is a multiple of a tile's
        ((2, 16, 9, 9), (32, 4, 3, 3), 4, 2, "gpu_conv"),
        ((1, 64, 8, 8), (48, 64, 1, 1), 1, 1, "gpu_conv"),
        ((1, 6, 9, 9), (6, 1, 3, 3), 6, 2, "gpu_fallback"),
    ],
)
def test_fused_convolutions(
    shape: tuple[int, ...], weight: tuple[int, ...], groups: int, stride: int, template: str, tmp_path: Path
) -> None:
    graph = conv_graph(shape, weight, groups, stride)
    (step,) = plan(graph)
    assert step.lowering is not None
    assert select(step.lowering.task, TARGET).name == template
    rng = np.random.default_rng(4)
    inputs = {v.name: rng.standard_normal(v.type.static_shape).astype(np.float32) for v in graph.inputs}
    got = run_emulated(graph, inputs, TARGET, tmp_path)
    assert_close(got["y"], evaluate(graph, inputs)["y"], 1e-5)


def test_a_reduction_whose_threads_exchange_their_parts(tmp_path: Path) -> None:
    graph = Graph("rows")
    x = graph.add_input("x", TensorType("float32", (3, 1000)))
    graph.set_outputs([("y", graph.add_node("softmax", [x], {"axis": 1}).output)])
    inputs = {"x": np.random.default_rng(5).standard_normal((3, 1000)).astype(np.float32)}
    assert_close(run_emulated(graph, inputs, TARGET, tmp_path)["y"], evaluate(graph, inputs)["y"], 1e-5)


def test_a_whole_network_on_the_emulated_gpu(tmp_path: Path) -> None:
    graph = fix_shapes(load_model(MODEL), {"input": (1, 1, 28, 28)})
    inputs = {"input": np.random.default_rng(6).random((1, 1, 28, 28), dtype=np.float32)}
    expected = evaluate(graph, inputs)
    default_pipeline(TARGET).run(graph, PassContext(target=TARGET))
    got = run_emulated(graph, inputs, TARGET, tmp_path)
    for name, array in expected.items():
        assert_close(got[name], array, 1e-5)
