"""The command line: every command, its exit codes (0 done, 1 a check failed, 2 bad input), and no tracebacks."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import subprocess
import sys
import traceback
import unittest.mock
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeir import ops  # noqa: F401 (registers the operators)
from edgeir.cli import main
from edgeir.ir import load_graph
from edgeir.ir.evaluate import evaluate
from edgeir.runtime import Artifact


def edgeir_process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the command in a process of its own, as a shell does."""
    command = [sys.executable, "-m", "edgeir.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def edgeir(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the command in this process, where the imports are paid for; what escapes it shows as a traceback."""
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    names = ["edgeir", *map(str, arguments)]
    with redirect_stdout(stdout), redirect_stderr(stderr), unittest.mock.patch.object(sys, "argv", names):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
            code = 1
    return subprocess.CompletedProcess(names, code, stdout.getvalue(), stderr.getvalue())


def refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """Bad input: exit code 2, one message on stderr that has the words, no traceback."""
    assert result.returncode == 2, result.stderr
    assert result.stderr.strip()
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


def model(symbolic: bool = False) -> onnx.ModelProto:
    """y = softmax(relu(x) @ W): a float matrix, of 2 or N rows."""
    weight = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("MatMul", ["a", "w"], ["b"]),
        helper.make_node("Softmax", ["b"], ["y"], axis=1),
    ]
    rows = "N" if symbolic else 2
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, 6])],
        [numpy_helper.from_array(weight, "w")],
    )
    result = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    result.ir_version = 9
    return result


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "small.onnx"
    path.write_bytes(model().SerializeToString())
    return path


@pytest.fixture(scope="module")
def symbolic_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "symbolic.onnx"
    path.write_bytes(model(symbolic=True).SerializeToString())
    return path


@pytest.fixture(scope="module")
def compiled(onnx_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact, never to be changed."""
    path = tmp_path_factory.mktemp("artifacts") / "small.edgeir"
    result = edgeir("compile", onnx_file, "-o", path)
    assert result.returncode == 0, result.stderr
    return path


@pytest.fixture
def artifact(compiled: Path, tmp_path: Path) -> Path:
    """A copy of the artifact, to be damaged."""
    return Path(shutil.copytree(compiled, tmp_path / "copy.edgeir"))


def expected_output(x: np.ndarray) -> np.ndarray:
    weight = numpy_helper.to_array(model().graph.initializer[0])
    scores = np.exp(np.maximum(x, 0) @ weight)
    return scores / scores.sum(axis=1, keepdims=True)


# Commands that do their work


def test_a_process_of_its_own(compiled: Path, onnx_file: Path, tmp_path: Path) -> None:
    done = edgeir_process("verify", compiled)
    assert done.returncode == 0, done.stderr
    (tmp_path / "cut.onnx").write_bytes(onnx_file.read_bytes()[:50])
    refused(edgeir_process("compile", tmp_path / "cut.onnx", "-o", tmp_path / "out.edgeir"))


def test_help_and_usage() -> None:
    shown = edgeir("--help")
    assert shown.returncode == 0
    for command in ("compile", "run", "verify", "inspect", "opt", "passes", "targets"):
        assert command in shown.stdout
    refused(edgeir("no-such-command"))
    refused(edgeir("compile"))
    refused(edgeir("compile", "x.onnx", "--threads", "0"))


def test_compile_writes_an_artifact(compiled: Path) -> None:
    assert {path.name for path in compiled.iterdir()} == {"model.so", "manifest.json", "golden.npz"}


def test_compile_reports_json(onnx_file: Path, tmp_path: Path) -> None:
    result = edgeir("compile", onnx_file, "-o", tmp_path / "a.edgeir", "--json", "--threads", "1")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["manifest"]["threads"] == 1
    assert report["manifest"]["macs"] >= 2 * 4 * 6
    assert all(seconds >= 0 for seconds in report["seconds"].values())


def test_compile_with_shape_timing_and_passes(symbolic_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.edgeir"
    result = edgeir(
        "compile", symbolic_file, "-o", output, "--shape", "x=3,4", "--timing", "--passes", "canonicalize,dead-code"
    )
    assert result.returncode == 0, result.stderr
    assert "total" in result.stdout
    assert json.loads((output / "manifest.json").read_text())["passes"] == "canonicalize,dead-code"
    assert edgeir("verify", output).returncode == 0


def test_run_computes(compiled: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((2, 4)).astype(np.float32)
    np.savez(tmp_path / "in.npz", x=x)
    result = edgeir("run", compiled, "--inputs", tmp_path / "in.npz", "--outputs", tmp_path / "out.npz")
    assert result.returncode == 0, result.stderr
    assert "float32[2, 6]" in result.stdout
    with np.load(tmp_path / "out.npz") as arrays:
        assert arrays.files == ["y"]
        np.testing.assert_allclose(arrays["y"], expected_output(x), rtol=1e-5)


def test_verify_passes_and_reports(compiled: Path) -> None:
    assert edgeir("verify", compiled).returncode == 0
    result = edgeir("verify", compiled, "--json", "--threads", "1")
    report = json.loads(result.stdout)
    assert result.returncode == 0 and report["passed"]
    assert [row["name"] for row in report["outputs"]] == ["y"]


def test_verify_fails_with_1_when_outputs_differ(compiled: Path) -> None:
    result = edgeir("verify", compiled, "--tolerance", "-1", "--json")
    if result.returncode == 2:  # a negative tolerance may also be refused as such
        refused(result)
        return
    assert result.returncode == 1, result.stderr
    assert not json.loads(result.stdout)["passed"]
    assert "Traceback" not in result.stderr


def test_inspect_each_kind_of_model(onnx_file: Path, symbolic_file: Path, compiled: Path, tmp_path: Path) -> None:
    report = json.loads(edgeir("inspect", onnx_file, "--json").stdout)
    assert report["operators"] == {"matmul": 1, "relu": 1, "softmax": 1}
    assert report["macs"] >= 48 and report["parameters"] == 24
    assert "matmul" in edgeir("inspect", onnx_file).stdout
    symbolic = edgeir("inspect", symbolic_file)
    assert symbolic.returncode == 0 and "--shape" in symbolic.stdout
    assert json.loads(edgeir("inspect", symbolic_file, "--shape", "x=2,4", "--json").stdout)["macs"] == report["macs"]
    assert json.loads(edgeir("inspect", compiled, "--json").stdout)["name"] == "small"
    text = tmp_path / "small.ir"
    assert edgeir("opt", onnx_file, "--passes", "", "-o", text).returncode == 0
    assert json.loads(edgeir("inspect", text, "--json").stdout)["macs"] == report["macs"]


def test_opt_prints_and_writes_text(onnx_file: Path, tmp_path: Path) -> None:
    printed = edgeir("opt", onnx_file, "--passes", "canonicalize,fuse-operators")
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout.startswith('graph "small"') and "fused" in printed.stdout
    path = tmp_path / "small.ir"
    result = edgeir("opt", onnx_file, "--passes", "canonicalize,fuse-operators", "-o", path, "--timing")
    assert result.returncode == 0 and "canonicalize" in result.stderr
    x = np.random.default_rng(2).standard_normal((2, 4)).astype(np.float32)
    np.testing.assert_allclose(evaluate(load_graph(path), {"x": x})["y"], expected_output(x), rtol=1e-5)
    again = edgeir("opt", path, "--passes", "dead-code", "--check", "--stop-after", "3", "--dump", tmp_path / "dump")
    assert again.returncode == 0, again.stderr
    assert list((tmp_path / "dump").iterdir())


def test_lists_of_passes_and_targets() -> None:
    names = {row["name"] for row in json.loads(edgeir("passes", "--json").stdout)}
    assert {"canonicalize", "dead-code", "fuse-operators"} <= names
    assert "canonicalize" in edgeir("passes").stdout
    rows = json.loads(edgeir("targets", "--json").stdout)
    assert all(row["triple"] and row["vector_bits"] for row in rows)
    assert rows[0]["name"] in edgeir("targets").stdout


# Bad input


@pytest.mark.parametrize("command", [["compile"], ["inspect"], ["opt", "--passes", "canonicalize"]])
@pytest.mark.parametrize("kind", ["absent", "empty", "truncated", "text", "cyclic", "unsupported"])
def test_bad_models(command: list[str], kind: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    data = model().SerializeToString()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "text":
        path.write_text("this is no model")
    elif kind == "cyclic":
        cyclic = model()
        cyclic.graph.node[0].input[0] = "b"
        path.write_bytes(cyclic.SerializeToString())
    elif kind == "unsupported":
        foreign = model()
        foreign.graph.node[0].op_type = "NoSuchOperator"
        foreign.graph.node[0].domain = "com.example"
        foreign.opset_import.append(helper.make_opsetid("com.example", 1))
        path.write_bytes(foreign.SerializeToString())
    arguments = ["-o", str(tmp_path / "out.edgeir")] if command == ["compile"] else []
    refused(edgeir(*command, path, *arguments))
    assert not (tmp_path / "out.edgeir").exists()


def test_bad_options_of_compile(onnx_file: Path, symbolic_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.edgeir"
    refused(edgeir("compile", onnx_file, "-o", output, "--target", "no-such-target"), "no-such-target")
    refused(edgeir("compile", onnx_file, "-o", output, "--passes", "canonicalise"), "canonicalize")
    refused(edgeir("compile", onnx_file, "-o", output, "--passes", "canonicalize{depth=1}"), "depth")
    refused(edgeir("compile", symbolic_file, "-o", output), "--shape")
    for shape in ("x", "x=", "=1,4", "x=a,4", "x=-3,4", "x=3", "x=3,5", "z=3,4", "x=1.5,4"):
        refused(edgeir("compile", symbolic_file, "-o", output, "--shape", shape))
    refused(edgeir("compile", symbolic_file, "-o", output, "--shape", "x=3,4", "--shape", "x=2,4"), "twice")
    refused(edgeir("compile", onnx_file, "-o", "/dev/null/x"))
    assert not output.exists()


def test_bad_options_of_opt(onnx_file: Path, tmp_path: Path) -> None:
    refused(edgeir("opt", onnx_file, "--passes", "no-such-pass"), "no-such-pass")
    refused(edgeir("opt", onnx_file, "--passes", "canonicalize{"))
    refused(edgeir("opt", onnx_file, "--passes", "", "--target", "no-such-target"))
    broken = tmp_path / "broken.ir"
    broken.write_text('graph "g" (%x: float32[2]) {\n  %y = relu(%z) : float32[2]\n  return "y" = %y\n}\n')
    refused(edgeir("opt", broken, "--passes", ""), "line 2")


@pytest.mark.parametrize("command", [["verify"], ["run", "--inputs", "IN", "--outputs", "OUT"], ["inspect"]])
def test_damaged_artifacts(command: list[str], artifact: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.zeros((2, 4), np.float32))
    files = {"IN": str(tmp_path / "in.npz"), "OUT": str(tmp_path / "out.npz")}
    arguments = [files.get(item, item) for item in command]
    for name in ("model.so", "golden.npz", "manifest.json"):
        whole = (artifact / name).read_bytes()
        damaged = bytearray(whole)
        damaged[len(damaged) // 2] ^= 0xFF
        (artifact / name).write_bytes(damaged)
        refused(edgeir(arguments[0], artifact, *arguments[1:]))
        (artifact / name).unlink()
        refused(edgeir(arguments[0], artifact, *arguments[1:]))
        (artifact / name).write_bytes(whole)
    assert edgeir(arguments[0], artifact, *arguments[1:]).returncode == 0
    refused(edgeir(arguments[0], tmp_path / "nothing.edgeir", *arguments[1:]))


def test_artifact_for_another_processor(onnx_file: Path, tmp_path: Path) -> None:
    rows = json.loads(edgeir("targets", "--json").stdout)
    family = rows[0]["triple"].split("-")[0]
    foreign = next(row["name"] for row in rows[1:] if row["triple"].split("-")[0] != family and "alias_of" not in row)
    output = tmp_path / "foreign.edgeir"
    result = edgeir("compile", onnx_file, "-o", output, "--target", foreign)
    if result.returncode:
        refused(result)
        pytest.skip("needs a linker for another processor")
    refused(edgeir("verify", output))
    assert edgeir("inspect", output).returncode == 0


def rewritten(artifact: Path, path: Path, **changes: Any) -> Path:
    """The artifact with another manifest, hashes and all in order: only the machine is wrong."""
    original = Artifact.load(artifact)
    inputs, outputs = original.load_golden()
    manifest = dataclasses.replace(original.manifest, **changes)
    return Artifact.write(path, original.library, manifest, inputs, outputs).path


@pytest.mark.parametrize("wrong", ["architecture", "features"])
def test_artifact_for_another_machine(wrong: str, compiled: Path, tmp_path: Path) -> None:
    target = Artifact.load(compiled).manifest.target
    if wrong == "architecture":
        other = "x86_64" if target.triple.startswith("aarch64") else "aarch64"
        triple = f"{other}-unknown-linux-gnu"
        path = rewritten(compiled, tmp_path / "a.edgeir", target=dataclasses.replace(target, triple=triple))
        words = ["architecture", other]
    else:
        path = rewritten(compiled, tmp_path / "a.edgeir", required_features=("not-yet-made",))
        words = ["CPU lacks not-yet-made"]
    np.savez(tmp_path / "in.npz", x=np.zeros((2, 4), np.float32))
    refused(edgeir("verify", path), *words)
    refused(edgeir("run", path, "--inputs", tmp_path / "in.npz", "--outputs", tmp_path / "out.npz"), *words)
    assert edgeir("inspect", path).returncode == 0


def test_bad_inputs_of_run(compiled: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.npz"
    good = np.zeros((2, 4), np.float32)
    sets: dict[str, dict[str, np.ndarray]] = {
        "missing": {},
        "unknown": {"x": good, "z": good},
        "shape": {"x": good.T.copy()},
        "dtype": {"x": good.astype(np.float64)},
        "object": {"x": np.array([None])},
    }
    for name, arrays in sets.items():
        path = tmp_path / f"{name}.npz"
        np.savez(path, **arrays)  # type: ignore[arg-type]
        refused(edgeir("run", compiled, "--inputs", path, "--outputs", output))
    (tmp_path / "text.npz").write_text("no arrays")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "single.npy", good)
    for name in ("text.npz", "empty.npz", "single.npy", "absent.npz"):
        refused(edgeir("run", compiled, "--inputs", tmp_path / name, "--outputs", output))
    np.savez(tmp_path / "good.npz", x=good)
    refused(edgeir("run", compiled, "--inputs", tmp_path / "good.npz", "--outputs", tmp_path / "no" / "folder.npz"))
    assert not output.exists()
