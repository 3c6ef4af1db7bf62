"""`--emit c`: compiled with a C compiler, linked with libc and libm alone, run, compared with `Session.run`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeir.compiler import compile, prepare
from edgeir.emit import write_c
from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, TensorType
from edgeir.runtime import Session

needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
LARGEST_DIFFERENCE = 1e-6


def build(folder: Path, compiler: str = "gcc", *options: str) -> Path:
    sources = [name for name in ("main.c", "model.c", "kernels.o") if (folder / name).exists()]
    sources += [path.name for path in folder.iterdir() if path.stem in ("weights", "golden")]
    strict = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2"]
    subprocess.run([compiler, *strict, *options, *sources, "-lm", "-o", "example"], cwd=folder, check=True, timeout=120)
    return folder / "example"


def run_example(command: list[str], folder: Path) -> tuple[dict[str, float], bytes]:
    result = subprocess.run([*command, "out.bin"], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(result.stdout), (folder / "out.bin").read_bytes()


def said(command: list[str], folder: Path) -> str:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=60).stdout


def split(data: bytes, like: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    arrays, at = {}, 0
    for name, wanted in like.items():
        arrays[name] = np.frombuffer(data, wanted.dtype, wanted.size, at).reshape(wanted.shape)
        at += wanted.nbytes
    assert at == len(data)
    return arrays


def assert_equals_session(folder: Path, model: Path | Graph, shapes: dict[str, tuple[int, ...]] | None) -> None:
    """The C program's outputs against the artifact's, on the same inputs."""
    compilation = prepare(model, "host", shapes, threads=1)
    write_c(compilation, folder / "c")
    report, data = run_example([str(build(folder / "c"))], folder / "c")
    compile(model, "host", shapes, threads=1, output=folder / "artifact", golden_inputs=compilation.golden_inputs)
    wanted = Session(folder / "artifact", 1).run(compilation.golden_inputs)
    for name, got in split(data, wanted).items():
        span = float(np.ptp(wanted[name].astype(np.float64))) or 1.0
        difference = np.max(np.abs(got.astype(np.float64) - wanted[name].astype(np.float64)), initial=0.0)
        assert difference <= LARGEST_DIFFERENCE * span, name
    assert report["arena_bytes"] >= 0 and report["peak_resident_bytes"] < 100e6


@needs_compiler
def test_mnist_equals_the_session(shared_models: Path, tmp_path: Path) -> None:
    assert_equals_session(tmp_path, shared_models / "mnist_cnn.onnx", {"input": (1, 1, 28, 28)})
    header = (tmp_path / "c" / "model.h").read_text()
    assert "int model_run(const float *in_input, float *out_logits);" in header
    undefined = subprocess.run(
        ["nm", "-u", "kernels.o"], cwd=tmp_path / "c", capture_output=True, text=True, check=True
    )
    assert undefined.stdout.split() == []
    text = (tmp_path / "c" / "model.c").read_text()
    assert not re.search(r"\b(malloc|calloc|fopen|open|mmap)\b", text)
    needed = subprocess.run(
        ["readelf", "-d", "example"], cwd=tmp_path / "c", capture_output=True, text=True, check=True
    )
    assert set(re.findall(r"NEEDED.*\[(.*?)\]", needed.stdout)) <= {"libc.so.6", "libm.so.6"}


@needs_compiler
@pytest.mark.slow
def test_weights_as_an_object(shared_models: Path, tmp_path: Path) -> None:
    assert_equals_session(tmp_path, shared_models / "ppocr_cls.onnx", {"x": (1, 3, 48, 192)})
    assert (tmp_path / "c" / "weights.o").exists()


def corner_graph() -> Graph:
    """Outputs that are inputs, constants, views and repeated values; integers and bools."""
    graph = Graph("corners */")
    x = graph.add_input("x 1", TensorType("float32", (2, 3)))
    k = graph.add_input("int", TensorType("int32", (2, 3)))
    y = graph.add_node("exp", [x]).output
    flat = graph.add_node("reshape", [y], {"shape": (6,)}).output
    doubled = graph.add_node("add", [k, k]).output
    mask = graph.add_node("less", [doubled, k]).output
    total = graph.add_node("softmax", [graph.add_node("mul", [y, x]).output], {"axis": 1}).output
    constant = graph.add_constant(np.arange(5, dtype=np.float32))
    outputs = {"y": y, "flat": flat, "again": y, "x": x, "c": constant, "k2": doubled, "mask": mask, "s": total}
    graph.set_outputs(list(outputs.items()))
    return graph


@needs_compiler
def test_corner_cases(tmp_path: Path) -> None:
    assert_equals_session(tmp_path, corner_graph(), None)


@needs_compiler
def test_concatenations_in_place(tmp_path: Path) -> None:
    """One is returned, in the caller's array; the other, in the arena, lies in a third."""
    graph = Graph("in_place")
    rng = np.random.default_rng(0)
    x = graph.add_input("x", TensorType("float32", (1, 2, 16)))
    weights = [graph.add_constant(rng.standard_normal((16, 16)).astype(np.float32), f"w{index}") for index in range(6)]
    first, second, third, fourth, fifth = (graph.add_node("matmul", [x, weight]).output for weight in weights[:5])
    returned = graph.add_node("concat", [first, second], {"axis": 1}).output
    inner = graph.add_node("concat", [third, fourth], {"axis": 1}).output
    outer = graph.add_node("concat", [fifth, inner], {"axis": 1}).output
    products = [graph.add_node("matmul", [value, weights[5]]).output for value in (inner, outer)]
    graph.set_outputs([("returned", returned), ("inner", products[0]), ("outer", products[1])])
    assert_equals_session(tmp_path, graph, None)
    program = (tmp_path / "c" / "model.c").read_text()
    assert "concat" not in program
    assert "(unsigned char *)out_returned + 128" in program


@needs_compiler
def test_parallel_kernels_run_in_the_only_thread(shared_models: Path, tmp_path: Path) -> None:
    compilation = prepare(shared_models / "mnist_cnn.onnx", "host", {"input": (4, 1, 28, 28)}, threads=4)
    lowered = compilation.lowered
    pretended = replace(compilation, lowered=replace(lowered, target=lowered.target.with_cores(1)))
    write_c(pretended, tmp_path / "c")
    calls = said(["objdump", "-dr", "kernels.o"], tmp_path / "c")
    assert re.search(r"R_\w+\s+__TVMBackendParallelLaunch", calls)
    report, _ = run_example([str(build(tmp_path / "c"))], tmp_path / "c")
    assert report["relative_error"] <= 1e-5


@needs_compiler
def test_misaligned_arrays_are_refused(tmp_path: Path) -> None:
    write_c(prepare(corner_graph(), "host", threads=1), tmp_path / "c")
    main = tmp_path / "c" / "main.c"
    main.write_text(main.read_text().replace("model_run(in_x_1,", "model_run(in_x_1 + 1,"))
    program = build(tmp_path / "c")
    assert subprocess.run([str(program)], capture_output=True, check=False, timeout=60).returncode == 1


def test_foreign_folders_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(EdgeIRError, match="taken"):
        write_c(prepare(corner_graph(), "host", threads=1), tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "precious"


@pytest.mark.qemu
@pytest.mark.skipif(
    shutil.which("qemu-aarch64") is None or shutil.which("aarch64-linux-gnu-gcc") is None,
    reason="needs qemu-user and gcc-aarch64-linux-gnu",
)
def test_aarch64_under_the_emulator(shared_models: Path, tmp_path: Path) -> None:
    compilation = prepare(shared_models / "mnist_cnn.onnx", "cortex-a72", {"input": (1, 1, 28, 28)}, threads=1)
    write_c(compilation, tmp_path / "c")
    program = build(tmp_path / "c", "aarch64-linux-gnu-gcc", "-static")
    report, data = run_example(["qemu-aarch64", "-cpu", "cortex-a72", str(program)], tmp_path / "c")
    wanted = compilation.golden_outputs["logits"]
    got = split(data, {"logits": wanted})["logits"]
    assert np.max(np.abs(got - wanted)) <= 1e-4 * np.ptp(wanted)
    assert report["relative_error"] <= 1e-4
