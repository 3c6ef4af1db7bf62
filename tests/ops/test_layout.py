from __future__ import annotations

import numpy as np
import pytest

from edgeir.errors import EdgeIRError, TypeInferenceError
from edgeir.ir import Graph, TensorType
from tests.ops.onnx_cases import run


def graph_with_cast(layout: str) -> Graph:
    graph = Graph("cast")
    x = graph.add_input("x", TensorType("float32", (1, 24, 4, 4)))
    node = graph.add_node("layout_cast", [x], {"layout": layout})
    graph.set_outputs([("y", node.output)])
    return graph


def test_only_the_layout_changes() -> None:
    graph = graph_with_cast("NCHW16c")
    assert str(graph.outputs[0].type) == "float32[1, 24, 4, 4]{NCHW16c}"
    assert graph.outputs[0].type.physical_shape() == (1, 2, 4, 4, 16)
    back = graph.add_node("layout_cast", [graph.outputs[0]], {"layout": ""})
    assert back.output.type == graph.inputs[0].type
    graph.verify()
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(run("layout_cast", [x], {"layout": ""})[0], x)


def test_refuses() -> None:
    with pytest.raises(TypeInferenceError, match="layout and rank differ"):
        graph_with_cast("NC8c")
    with pytest.raises(EdgeIRError, match="not a layout"):
        graph_with_cast("nonsense")
