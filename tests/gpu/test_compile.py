"""Kernels and models compile to machine code for a GPU that is not here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tvm import tirx

from edgeir.compiler import load_model
from edgeir.frontend.onnx import load
from edgeir.ir import Graph
from edgeir.ir.shapes import fix_shapes
from edgeir.lowering.build import Lowered, build
from edgeir.lowering.cuda_binary import compile_cuda, nvrtc_missing
from edgeir.lowering.gpu import device_source
from edgeir.lowering.module import plan
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext
from edgeir.targets import Target, lookup
from tests.gpu.op_graphs import GROUPS, op_graph
from tests.lowering.plain_schedule import plain

needs_nvrtc = pytest.mark.skipif(bool(nvrtc_missing("sm_87")), reason="needs NVRTC (pip install edgeir[cuda])")
QUICK = ("conv", "softmax")
MODELS = (
    ("mnist_cnn", {"input": (1, 1, 28, 28)}),
    ("silero_vad_16k_static", {}),
    pytest.param("ppocr_cls", {"x": (1, 3, 48, 192)}, marks=pytest.mark.slow),
    pytest.param("ppocrv4_det", {"x": (1, 3, 320, 320)}, marks=pytest.mark.slow),
    pytest.param("efficientnet_lite0", {"N": 1}, marks=pytest.mark.slow),
    pytest.param("open_nsfw_resnet50thin", {"unk__653": 1}, marks=pytest.mark.slow),
    pytest.param("minilm_l6_int8", {"batch": 2, "sequence": 24}, marks=pytest.mark.slow),
)


def unbound_stores(statement: Any) -> list[Any]:
    """The stores that are under no loop over a GPU's threads, but for those that never run."""
    if isinstance(statement, tirx.BufferStore):
        return [statement]
    if isinstance(statement, tirx.For):
        extent: Any = statement.extent
        if statement.thread_binding is not None or int(extent) == 0:
            return []
    parts = [getattr(statement, name, None) for name in ("block", "init", "body", "then_case", "else_case")]
    parts += list(getattr(statement, "seq", []))
    return [store for part in parts if part is not None for store in unbound_stores(part)]


def check_kernels(lowered: Lowered, target: Target) -> str:
    """The kernels' source; every one is bound to threads, and keeps to the limits of a block."""
    gpu = target.gpu
    assert gpu is not None
    for scheduled in lowered.kernels:
        function: Any = scheduled.kernel.func
        assert not unbound_stores(function.body), function.script()
    source = device_source(lowered.executable)
    threads = [int(n) for n in re.findall(r"__launch_bounds__\((\d+)\)", source)]
    assert all(n <= gpu.max_threads for n in threads)
    for kernel in source.split('extern "C" __global__')[1:]:
        shared = re.findall(r"__shared__ alignas\(\d+\) (\w+) \w+\[(\d+)\]", kernel)
        exact = sum(int(count) * {"half": 2, "float": 4, "int": 4}.get(kind, 8) for kind, count in shared)
        assert exact <= gpu.shared_bytes
    return source


def model_graph(path: Path, sizes: dict, target: Target) -> Graph:
    by_input = all(isinstance(size, tuple) for size in sizes.values())
    graph = load(path, sizes or None) if by_input else load(path).bind(sizes)
    default_pipeline(target).run(graph, PassContext(target=target))
    return graph


@needs_nvrtc
@pytest.mark.parametrize("op", [op if op in QUICK else pytest.param(op, marks=pytest.mark.slow) for op in GROUPS])
def test_operator_compiles_to_a_cubin(op: str) -> None:
    target = lookup("cuda-sm_87")
    graph, _ = op_graph(op)
    source = check_kernels(build(graph, target), target)
    assert compile_cuda(source, "sm_87").startswith(b"\x7fELF")


@needs_nvrtc
@pytest.mark.parametrize(("name", "sizes"), MODELS)
def test_model_compiles_to_a_cubin(shared_models: Path, name: str, sizes: dict) -> None:
    target = lookup("jetson-orin-nano")
    graph = model_graph(shared_models / f"{name}.onnx", sizes, target)
    assert all(not value.type.layout for node in graph.nodes for value in node.outputs)
    source = check_kernels(build(graph, target), target)
    assert compile_cuda(source, "sm_87").startswith(b"\x7fELF")


@needs_nvrtc
@pytest.mark.slow
@pytest.mark.parametrize("arch", ["sm_90", "sm_75"])
def test_one_source_serves_other_architectures(arch: str) -> None:
    graph, _ = op_graph("matmul")
    source = device_source(build(graph, lookup("cuda-sm_90")).executable)
    assert compile_cuda(source, arch).startswith(b"\x7fELF")
    assert b".target sm_" in compile_cuda(source, arch, "ptx")


@pytest.mark.parametrize(("name", "word"), [("opencl", "__kernel"), ("metal", "kernel void"), ("webgpu", "@compute")])
def test_other_languages_are_written_as_source(name: str, word: str) -> None:
    target = lookup(name)
    graph = fix_shapes(
        load_model(Path(__file__).parents[2] / "edgeir" / "models" / "mnist_cnn.onnx"), {"input": (1, 1, 28, 28)}
    )
    default_pipeline(target).run(graph, PassContext(target=target))
    assert word in device_source(build(graph, target).executable)


def test_the_check_notices_a_stage_without_threads() -> None:
    """TVM itself would make host code of it, which touches the device's memory."""
    graph, _ = op_graph("sqrt")
    step = next(step for step in plan(graph) if step.lowering is not None)
    assert step.lowering is not None
    function: Any = plain(step.lowering.task).kernel.func
    assert unbound_stores(function.body)
