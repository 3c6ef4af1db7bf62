"""The emulated device: what it runs, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import edgeir
import edgeir.ops
from edgeir.cli import app
from edgeir.devices import EmulatedDevice, device_named, verify_on
from edgeir.errors import ArtifactError, EdgeIRError
from edgeir.ir import Builder, Graph
from edgeir.runtime import Artifact, Manifest, TensorSpec
from edgeir.targets import lookup

pytestmark = pytest.mark.qemu


def half_precision_network() -> Graph:
    builder = Builder("half")
    x = builder.input("x", "float16[64]")
    return builder.outputs(y=builder.relu(builder.add(builder.mul(x, x), x)))


@pytest.fixture
def half(emulated: EmulatedDevice, tmp_path: Path) -> Artifact:
    """An artifact whose code has arithmetic on 16-bit floats, which Cortex-A76 has and Cortex-A72 lacks."""
    return edgeir.compile(half_precision_network(), "cortex-a76", output=tmp_path / "half")


def without_requirements(artifact: Artifact) -> Artifact:
    """The same artifact with a manifest that requires no CPU feature, written as if that were true."""
    manifest = replace(artifact.manifest, target=replace(artifact.manifest.target, required=()), required_features=())
    (artifact.path / "manifest.json").write_text(manifest.to_text(), encoding="utf-8", newline="\n")
    return Artifact.load(artifact.path)


def test_features_are_those_of_the_emulated_cpu(emulated: EmulatedDevice) -> None:
    for name in ("cortex-a53", "cortex-a72"):
        assert emulated.features(name) >= set(lookup(name).required)
        assert "asimddp" not in emulated.features(name)
    assert emulated.features("cortex-a76") >= set(lookup("cortex-a76").required)
    assert {"sve", "i8mm", "bf16"} <= emulated.features("max")


def test_the_cpu_is_the_targets_or_one_with_its_features(emulated: EmulatedDevice) -> None:
    for text, cpu in (
        ("cortex-a53", "cortex-a53"),
        ("raspberry-pi-5", "cortex-a76"),
        ("aarch64-linux-gnu+neon", "cortex-a72"),
        ("aarch64-linux-gnu+neon+dotprod", "cortex-a76"),
        ("cortex-a53+dotprod", "cortex-a76"),
        ("aarch64-linux-gnu+i8mm", "max"),
    ):
        assert emulated.cpu_for(lookup(text), lookup(text).required) == cpu


def test_golden_pair_of_half_precision(emulated: EmulatedDevice, half: Artifact) -> None:
    assert verify_on(emulated, half.path).passed


def test_a_missing_feature_is_a_sentence_before_anything_runs(emulated: EmulatedDevice, half: Artifact) -> None:
    with pytest.raises(ArtifactError, match="The emulated cortex-a72's CPU lacks asimddp, asimdhp, fphp"):
        verify_on(replace(emulated, cpu="cortex-a72"), half.path)


def test_an_instruction_that_the_cpu_lacks_is_a_sentence(emulated: EmulatedDevice, half: Artifact) -> None:
    artifact = without_requirements(half)
    with pytest.raises(ArtifactError, match="an instruction that the device's CPU does not have"):
        verify_on(replace(emulated, cpu="cortex-a72"), artifact.path)
    assert verify_on(replace(emulated, cpu="cortex-a76"), artifact.path).passed


def test_dot_products_run_on_cortex_a76_and_trap_on_cortex_a72(emulated: EmulatedDevice, tmp_path: Path) -> None:
    artifact, expected = _dot_product(tmp_path)
    inputs, _ = artifact.load_golden()
    results = replace(emulated, cpu="cortex-a76").run(artifact, inputs)
    np.testing.assert_array_equal(results["y"], expected)
    with pytest.raises(ArtifactError, match="an instruction that the device's CPU does not have"):
        replace(emulated, cpu="cortex-a72").run(without_requirements(artifact), inputs)


def _dot_product(folder: Path) -> tuple[Artifact, np.ndarray]:
    """An int8 matrix product whose code has `sdot`, built by TVM alone, and its result."""
    import tvm
    from tvm import relax, te

    from edgeir.lowering.linking import linker_for

    target = lookup("aarch64-linux-gnu+neon+dotprod")
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-128, 128, (16, 64)).astype(np.int8) for _ in range(2))

    def product(x: Any, w: Any) -> Any:
        k = te.reduce_axis((0, 64))
        return te.compute((16, 16), lambda i, j: te.sum(x[i, k].astype("int32") * w[j, k].astype("int32"), axis=k))

    builder: Any = relax.BlockBuilder()
    variables = [relax.Var(name, relax.TensorType((16, 64), "int8")) for name in "ab"]  # pyright: ignore
    with builder.function("main", variables):
        with builder.dataflow():
            result = builder.emit_output(builder.emit_te(product, *variables))
        builder.emit_func_output(result)
    executable: Any = tvm.compile(builder.get(), tvm.target.Target(target.tvm_config()))
    assert "sdot" in executable.mod.imports[0].inspect_source("asm")
    library = folder / "exported.so"
    executable.export_library(str(library), fcompile=linker_for(target))
    specs = tuple(TensorSpec(name, "int8", (16, 64)) for name in "ab")
    manifest = Manifest("dot", specs, (TensorSpec("y", "int32", (16, 16)),), target)
    expected = a.astype(np.int32) @ b.astype(np.int32).T
    return Artifact.write(folder / "dot", library, manifest, {"a": a, "b": b}, {"y": expected}), expected


def test_artifacts_for_other_machines_are_refused(emulated: EmulatedDevice, tmp_path: Path) -> None:
    artifact = edgeir.compile(half_precision_network(), "host", output=tmp_path / "host")
    if artifact.manifest.target.architecture == "aarch64":
        pytest.skip("this machine is the device's architecture")
    with pytest.raises(ArtifactError, match="made for another architecture"):
        verify_on(emulated, artifact.path)


def test_another_version_of_tvm_is_a_sentence(emulated: EmulatedDevice, half: Artifact) -> None:
    manifest = replace(half.manifest, versions={**half.manifest.versions, "tvm": "0.99.0"})
    (half.path / "manifest.json").write_text(manifest.to_text(), encoding="utf-8", newline="\n")
    with pytest.raises(ArtifactError, match=r"made with apache-tvm 0\.99\.0, and the emulated cortex-a76 runs"):
        verify_on(emulated, half.path)


def test_wrong_inputs_are_refused(emulated: EmulatedDevice, half: Artifact) -> None:
    with pytest.raises(EdgeIRError, match="Missing inputs: x"):
        emulated.run(half, {})
    with pytest.raises(EdgeIRError, match="wrong type or shape"):
        emulated.run(half, {"x": np.zeros(64, np.float32)})


def test_unknown_cpus_are_refused(emulated: EmulatedDevice) -> None:
    with pytest.raises(EdgeIRError, match="qemu has no such CPU"):
        EmulatedDevice.load(emulated.folder, "cortex-m0")


def test_commands_run_and_verify_there(emulated: EmulatedDevice, half: Artifact, tmp_path: Path) -> None:
    inputs, golden = half.load_golden()
    np.savez(tmp_path / "in.npz", **inputs)  # pyright: ignore[reportArgumentType]
    files = ["--inputs", str(tmp_path / "in.npz"), "--outputs", str(tmp_path / "out.npz")]
    done = CliRunner().invoke(app, ["run", str(half.path), "--on", str(emulated.folder), *files])
    assert done.exit_code == 0, done.output
    with np.load(tmp_path / "out.npz") as results:
        np.testing.assert_allclose(results["y"], golden["y"], rtol=1e-2)
    done = CliRunner().invoke(app, ["verify", str(half.path), "--on", "qemu-aarch64:cortex-a76"])
    assert done.exit_code == 0, done.output
    assert device_named("qemu-aarch64") == emulated
