"""Inputs and outputs of every element type, from a compiled graph to the artifact's session."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.compiler import compile
from edgeir.ir import Graph, TensorType
from edgeir.ir.dtype import DTYPES, numpy_dtype
from edgeir.ir.evaluate import evaluate
from edgeir.runtime import Session, verify

SHAPE = (4, 4)


def test_an_artifact_takes_and_returns_every_element_type(tmp_path: Path) -> None:
    graph = Graph("types")
    names = sorted(DTYPES)
    outputs = []
    for name in names:
        x = graph.add_input(f"x_{name}", TensorType(name, SHAPE))
        outputs.append((f"same_{name}", x))
        outputs.append((f"moved_{name}", graph.add_node("transpose", [x], {"perm": (1, 0)}).output))
        outputs.append((f"number_{name}", graph.add_node("cast", [x], {"dtype": "float64"}).output))
    for name in ("int4", "uint4", "float8_e4m3fnuz", "float8_e5m2fnuz"):
        number = graph.add_node("cast", [graph.inputs[names.index("float32")]], {"dtype": name}).output
        outputs.append((f"made_{name}", number))
    graph.set_outputs(outputs)
    rng = np.random.default_rng(0)
    inputs = {}
    for name in names:
        low, high = (0, 2) if name == "bool" else (0, 8) if name.startswith("uint") else (-8, 8)
        inputs[f"x_{name}"] = rng.integers(low, high, SHAPE).astype("int64").astype(numpy_dtype(name))
    inputs["x_float32"] = np.abs(inputs["x_float32"]) % 8
    expected = evaluate(graph, inputs)
    artifact = compile(graph, threads=1, passes="", output=tmp_path / "types", golden_inputs=inputs)
    got = Session(artifact.path).run(inputs)
    for key, array in expected.items():
        assert got[key].dtype == array.dtype, key
        np.testing.assert_array_equal(got[key].astype(np.float64), array.astype(np.float64), err_msg=key)
    report = verify(artifact.path)
    assert report.passed, str(report)
