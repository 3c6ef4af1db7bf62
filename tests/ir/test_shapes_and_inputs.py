"""Fixing symbolic dimensions, and what evaluation says to unfit inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from edgeir.errors import EdgeIRError, TypeInferenceError
from edgeir.ir import Builder, Graph, TensorType, symbol
from edgeir.ir.evaluate import evaluate
from edgeir.ir.shapes import fix_shapes, require_static


def symbolic() -> Graph:
    n = symbol("N")
    builder = Builder("symbolic")
    x, y = builder.input("x", "float32[N, 3]"), builder.input("y", TensorType("float32", (n * 2, 3)))
    return builder.outputs(y=builder.concat(x, y, axis=0), n=builder.dims(values=(n, n * 3)))


def test_shapes_fix_every_dimension_that_follows() -> None:
    fixed = fix_shapes(symbolic(), {"x": (4, 3)})
    assert [value.type.shape for value in fixed.inputs] == [(4, 3), (8, 3)]
    assert fixed.outputs[0].type.shape == (12, 3)
    fixed.verify()
    require_static(fixed)
    assert symbolic().inputs[0].type.shape == (symbol("N"), 3)


@pytest.mark.parametrize(
    "shapes",
    [
        {"z": (1, 3)},
        {"x": (4,)},
        {"x": (4, 2)},
        {"x": (-1, 3)},
        {"x": (4, 3), "y": (9, 3)},
        {"y": (7, 3)},
    ],
)
def test_shapes_that_do_not_fit(shapes: Mapping[str, Sequence[int]]) -> None:
    with pytest.raises(EdgeIRError):
        fix_shapes(symbolic(), shapes)


def test_shapes_that_an_operator_cannot_take() -> None:
    builder = Builder()
    x = builder.input("x", "float32[1, 3, H, 8]")
    w = builder.constant(np.zeros((4, 3, 3, 3), np.float32))
    graph = builder.outputs(y=builder.conv(x, w, strides=(1, 1), padding=(0,) * 4, dilations=(1, 1)))
    with pytest.raises(TypeInferenceError, match="does not fit"):
        fix_shapes(graph, {"x": (1, 3, 2, 8)})


def test_symbolic_inputs_are_named_before_compilation() -> None:
    with pytest.raises(EdgeIRError, match="--shape x=1,3"):
        require_static(symbolic())


def test_evaluation_takes_sizes_from_the_inputs() -> None:
    results = evaluate(symbolic(), {"x": np.zeros((2, 3), np.float32), "y": np.ones((4, 3), np.float32)})
    assert results["y"].shape == (6, 3) and results["y"].sum() == 12
    assert results["n"].tolist() == [2, 6]


ZERO = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"x": ZERO},
        {"x": ZERO, "y": np.zeros((4, 3), np.float32), "z": ZERO},
        {"x": ZERO, "y": np.zeros((5, 3), np.float32)},
        {"x": ZERO, "y": np.zeros((4, 3))},
        {"x": ZERO, "y": np.zeros((4, 3), np.int32)},
        {"x": ZERO, "y": np.zeros((12,), np.float32)},
        {"x": np.zeros((2, 4), np.float32), "y": np.zeros((4, 3), np.float32)},
    ],
)
def test_evaluation_refuses_unfit_inputs(inputs: Mapping[str, np.ndarray]) -> None:
    with pytest.raises(EdgeIRError):
        evaluate(symbolic(), inputs)


def test_one_symbol_has_one_size() -> None:
    builder = Builder()
    a, b = builder.input("a", "float32[N]"), builder.input("b", "float32[N]")
    graph = builder.outputs(y=builder.add(a, b))
    with pytest.raises(EdgeIRError, match="N = 2"):
        evaluate(graph, {"a": np.zeros(2, np.float32), "b": np.zeros(1, np.float32)})


def test_observer_sees_every_result() -> None:
    builder = Builder()
    x = builder.input("x", "float32[2]")
    graph = builder.outputs(y=builder.neg(builder.relu(x, name="a"), name="b"), x=x)
    seen: dict[str, list[float]] = {}
    results = evaluate(
        graph, {"x": np.array([-1, 2], np.float32)}, lambda value, array: seen.update({value.name: array.tolist()})
    )
    assert seen == {"a": [0.0, 2.0], "b": [0.0, -2.0]}
    assert results["x"].tolist() == [-1, 2]
