"""Small artifacts, made by hand from Relax modules, for the tests of the runtime."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeir.runtime import Artifact, Manifest, Session, TensorSpec
from edgeir.runtime.dtypes import carrier_dtype, numpy_dtype
from edgeir.targets import host

Array = np.ndarray


def export(path: Path, inputs: list[TensorSpec], body: Callable) -> Path:
    """Compile `body(builder, *inputs)` → list of outputs, or one output bare, as a Relax `main` for this machine."""
    import tvm
    from tvm import relax

    builder = relax.BlockBuilder()
    types = [relax.TensorType(spec.shape, carrier_dtype(spec.dtype).name) for spec in inputs]  # pyright: ignore[reportArgumentType]
    variables = [relax.Var(f"x{index}", kind) for index, kind in enumerate(types)]
    with builder.function("main", variables):
        with builder.dataflow():
            outputs = body(builder, *variables)
            result = builder.emit_output(relax.Tuple(outputs) if isinstance(outputs, list) else outputs)
        builder.emit_func_output(result)
    tvm.compile(builder.get(), tvm.target.Target(host().tvm_config())).export_library(str(path))
    return path


@pytest.fixture
def make_session(tmp_path: Path) -> Callable[..., Session]:
    """`make_session(inputs, outputs, body)`: compile `body`, write an artifact with zeros as its pair, load it."""
    made = iter(range(100))

    def make(inputs: list[TensorSpec], outputs: list[TensorSpec], body: Callable) -> Session:
        folder = tmp_path / f"made{next(made)}"
        folder.mkdir()
        library = export(folder / "exported.so", inputs, body)
        manifest = Manifest("made", tuple(inputs), tuple(outputs), host())
        zeros = [{spec.name: np.zeros(spec.shape, numpy_dtype(spec.dtype)) for spec in s} for s in (inputs, outputs)]
        return Session(Artifact.write(folder / "artifact", library, manifest, *zeros).path)

    return make


@pytest.fixture(scope="session")
def weights() -> Array:
    return np.random.default_rng(7).standard_normal((8, 16)).astype(np.float32)


@pytest.fixture(scope="session")
def linear_source(tmp_path_factory: pytest.TempPathFactory, weights: Array) -> Path:
    """An artifact with input `x` [4, 8] and outputs `y` = x @ W [4, 16] and `z/0` = y + 1, never to be changed."""
    from tvm import relax, topi

    def body(builder, x):
        y = builder.emit_te(topi.matmul, x, relax.const(weights))
        return [y, builder.emit_te(lambda a: topi.add(a, 1.0), y)]

    folder = tmp_path_factory.mktemp("linear")
    inputs = [TensorSpec("x", "float32", (4, 8))]
    library = export(folder / "exported.so", inputs, body)
    x = np.random.default_rng(8).standard_normal((4, 8)).astype(np.float32)
    manifest = Manifest(
        name="linear",
        inputs=tuple(inputs),
        outputs=(TensorSpec("y", "float32", (4, 16)), TensorSpec("z/0", "float32", (4, 16))),
        target=host(),
        macs=4 * 8 * 16,
        passes="canonicalize",
    )
    y = (x.astype(np.float64) @ weights.astype(np.float64)).astype(np.float32)
    return Artifact.write(folder / "artifact", library, manifest, {"x": x}, {"y": y, "z/0": y + 1}).path


@pytest.fixture
def linear(linear_source: Path, tmp_path: Path) -> Path:
    """A copy of the linear artifact that a test may damage."""
    return Path(shutil.copytree(linear_source, tmp_path / "linear"))
