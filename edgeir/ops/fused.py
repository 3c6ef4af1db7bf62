"""`fused`: a group of nodes that becomes one kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from edgeir.errors import EdgeIRError, TypeInferenceError
from edgeir.ir.dims import Dim
from edgeir.ir.evaluate import evaluate
from edgeir.ir.graph import Graph
from edgeir.ir.op import Attribute, Kind, Op, Pattern, register
from edgeir.ir.types import TensorType
from edgeir.ops.operands import present


@register
class Fused(Op):
    """Computes its body, a graph whose inputs are the operands in order; the results are the body's outputs.

    Attributes:
        body: the graph. A constant of one element may stand in it; every other one must be an operand.
        anchor: name of the body's operator that does the heavy work, "" if there is none.
    """

    name = "fused"
    operands = ("inputs*",)
    attributes: ClassVar[Mapping[str, Attribute]] = {
        "body": Attribute(Kind.GRAPH),
        "anchor": Attribute(Kind.STR, ""),
    }
    pattern = Pattern.OPAQUE
    results = None

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """The logical types of the body's outputs.

        Raises:
            TypeInferenceError: the operands' types are not those of the body's inputs, a constant is too large, or
                the anchor is missing.
        """
        body: Graph = attributes["body"]
        if len(inputs) != len(body.inputs):
            raise TypeInferenceError("body and node differ in operands", expected=len(body.inputs), got=len(inputs))
        for position, value in enumerate(body.inputs):
            type = present(inputs, position)
            if type.with_layout("") != value.type.with_layout(""):
                raise TypeInferenceError(
                    f"operand {position} does not fit the body", expected=repr(value), got=str(type)
                )
        for constant in body.constants:
            if constant.data.size != 1:
                raise TypeInferenceError(
                    "a body holds a large constant",
                    expected="constants of one element",
                    got=repr(constant),
                    hint="make it an operand",
                )
        anchor = attributes["anchor"]
        if anchor and all(node.op != anchor for node in body.nodes):
            raise TypeInferenceError("the body has no such anchor", expected=_ops(body), got=anchor)
        return [value.type.with_layout("") for value in body.outputs]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """The body's evaluation."""
        body: Graph = attributes["body"]
        arrays = {value.name: present(inputs, position) for position, value in enumerate(body.inputs)}
        results = evaluate(body, arrays)
        return [results[name] for name in body.output_names]

    def macs(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType], attributes: Mapping[str, Any]
    ) -> Dim:
        """The sum over the body's nodes."""
        total: Dim = 0
        for node in attributes["body"].nodes:
            operands = [None if value is None else value.type for value in node.inputs]
            total = total + node.definition.macs(operands, [value.type for value in node.outputs], node.attributes)
        return total

    def layout(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType], attributes: Mapping[str, Any]
    ) -> Sequence[str]:
        """The layouts of the body's outputs, once the operands' layouts are those of the body's inputs.

        Raises:
            EdgeIRError: an operand's layout differs.
        """
        body: Graph = attributes["body"]
        for position, value in enumerate(body.inputs):
            type = present(inputs, position)
            if type.layout != value.type.layout:
                raise EdgeIRError(
                    f"operand {position} has another layout than the body", expected=repr(value), got=str(type)
                )
        return [value.type.layout for value in body.outputs]


def _ops(body: Graph) -> str:
    return ", ".join(dict.fromkeys(node.op for node in body.nodes))
