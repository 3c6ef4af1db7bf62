"""Kernels and models compile to machine code for a GPU that is not here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tvm

from edgeir.compiler import load_model
from edgeir.frontend.onnx import load
from edgeir.ir import Graph
from edgeir.ir.shapes import fix_shapes
from edgeir.lowering.build import Lowered, build
from edgeir.lowering.cuda_binary import compile_cuda, nvrtc_missing
from edgeir.lowering.gpu import device_source
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext
from edgeir.targets import Target, lookup
from tests.gpu.op_graphs import GROUPS, op_graph
from tests.lowering.plain_schedule import plain

needs_nvrtc = pytest.mark.skipif(bool(nvrtc_missing()), reason="needs NVRTC (pip install edgeir[cuda])")
QUICK = ("conv", "matmul", "softmax", "top_k", "gather")
MODELS = (
    ("mnist_cnn", {"input": (1, 1, 28, 28)}),
    ("silero_vad_16k_static", {}),
    pytest.param("ppocr_cls", {"x": (1, 3, 48, 192)}, marks=pytest.mark.slow),
    pytest.param("ppocrv4_det", {"x": (1, 3, 320, 320)}, marks=pytest.mark.slow),
    pytest.param("efficientnet_lite0", {"N": 1}, marks=pytest.mark.slow),
    pytest.param("open_nsfw_resnet50thin", {"unk__653": 1}, marks=pytest.mark.slow),
    pytest.param("minilm_l6_int8", {"batch": 2, "sequence": 24}, marks=pytest.mark.slow),
)


def check_kernels(lowered: Lowered, target: Target) -> str:
    """The kernels' source; every one is bound to threads, and keeps to the limits of a block."""
    gpu = target.gpu
    assert gpu is not None
    for scheduled in lowered.kernels:
        script = scheduled.kernel.func.script()
        empty = all(0 in spec.shape for spec in scheduled.task.outputs)
        assert empty or "thread_binding" in script, script
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
@pytest.mark.parametrize("arch", ["sm_90", pytest.param("sm_75", marks=pytest.mark.slow)])
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


def test_a_function_left_unbound_is_refused_by_tvm() -> None:
    """What the structural checks above rest on: TVM does notice a kernel without threads."""

    graph, _ = op_graph("sqrt")
    target = lookup("cuda-sm_87")
    with pytest.raises(RuntimeError, match="bind"), tvm.target.Target(target.tvm_config()):
        from edgeir.lowering.module import plan

        step = next(step for step in plan(graph) if step.lowering is not None)
        assert step.lowering is not None
        tvm.tirx.build(
            plain(step.lowering.task).kernel.func, target=tvm.target.Target(target.tvm_config()), pipeline="s_tir"
        )
