"""A kernel as text, from which any process can build it again: nothing of TVM crosses a process or reaches a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

import edgeir.ops  # noqa: F401  registers the operators that the text names
from edgeir.errors import EdgeIRError
from edgeir.ir.clone import copy_node
from edgeir.ir.dtype import FLOATS, numpy_dtype
from edgeir.ir.evaluate import evaluate
from edgeir.ir.graph import Graph, Node, Value
from edgeir.ir.parser import parse_graph
from edgeir.lowering.task import Lowering, lower_node

KERNEL = "kernel"
"""Symbol name of a kernel that is built by itself."""


@dataclass(frozen=True)
class Problem:
    """One node by itself, its operands as inputs.

    Attributes:
        text: IR text of a graph of one node. Constants of one element that belong to the computation stand in it;
            every other operand is an input.
        constants: the inputs that are constants in the model. Their values are of no importance here.
    """

    text: str
    constants: tuple[str, ...]

    @staticmethod
    def of_node(node: Node) -> Problem:
        """The problem of a node of a model.

        Raises:
            EdgeIRError: a dimension is symbolic.
        """
        graph = Graph(KERNEL)
        mapping: dict[Value, Value] = {}
        constants = []
        for value in node.present_inputs:
            if value in mapping:
                continue
            if node.op != "fused" and value.is_constant and value.data.size == 1 and not value.type.layout:
                mapping[value] = graph.add_constant(value.data, f"c{len(mapping)}")
                continue
            if not value.type.is_static:
                raise EdgeIRError("a kernel with symbolic dimensions cannot be tuned", where=str(node), got=value.type)
            mapping[value] = graph.add_input(f"p{len(mapping)}", value.type)
            if value.is_constant:
                constants.append(mapping[value].name)
        copied = copy_node(graph, node, mapping)
        graph.set_outputs([(f"r{i}", value) for i, value in enumerate(copied.outputs)])
        return Problem(str(graph), tuple(constants))

    def to_text(self) -> str:
        """One line of JSON."""
        return json.dumps({"text": self.text, "constants": list(self.constants)})

    @staticmethod
    def from_text(text: str) -> Problem:
        """Reads what `to_text` wrote.

        Raises:
            EdgeIRError: the text is damaged.
        """
        try:
            data = json.loads(text)
            problem = Problem(data["text"], tuple(data["constants"]))
        except (ValueError, TypeError, KeyError) as error:
            raise EdgeIRError("not the text of a kernel", got=str(error)) from None
        if not isinstance(problem.text, str) or not all(isinstance(item, str) for item in problem.constants):
            raise EdgeIRError("not the text of a kernel", got=text[:80])
        return problem

    def graph(self, seed: int = 0) -> Graph:
        """The graph of one node; the constants hold random values.

        Raises:
            EdgeIRError: the text is damaged, or holds more than one node.
        """
        parsed = parse_graph(self.text)
        if len(parsed) != 1:
            raise EdgeIRError("not the text of a kernel", expected="one node", got=len(parsed))
        arrays = example_arrays(parsed, seed)
        graph = Graph(KERNEL)
        mapping: dict[Value, Value] = {}
        for value in parsed.inputs:
            if value.name in self.constants:
                mapping[value] = graph.add_constant(arrays[value.name], value.name, value.type.layout)
            else:
                mapping[value] = graph.add_input(value.name, value.type)
        for value in parsed.constants:
            mapping[value] = graph.add_constant(value.data, value.name, value.type.layout)
        for node in parsed.nodes:
            copy_node(graph, node, mapping)
        pairs = zip(parsed.output_names, parsed.outputs, strict=True)
        graph.set_outputs([(name, mapping[value]) for name, value in pairs])
        return graph

    def lowering(self) -> Lowering:
        """The task, and where its arguments come from.

        Raises:
            EdgeIRError: as `graph`, or the operator cannot be compiled.
        """
        return lower_node(next(iter(self.graph().nodes)), KERNEL)


def example_arrays(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """Random arrays for a graph's inputs, by name.

    Floats are normal; large ones are scaled by the root of the elements that a sum may run over, so that products stay
    near 1. Integers are 0 or 1: valid as indices of almost all tables.
    """
    generator = np.random.default_rng(seed)
    arrays = {}
    for value in graph.inputs:
        shape, dtype = value.type.static_shape, numpy_dtype(value.type.dtype)
        if value.type.dtype in FLOATS:
            summed = np.prod(shape[1:]) if len(shape) == 4 else 1.0
            scale = 1.0 / np.sqrt(max(1.0, float(summed))) if len(shape) == 4 and shape[0] > 1 else 1.0
            arrays[value.name] = (generator.standard_normal(shape) * scale).astype(dtype)
        else:
            arrays[value.name] = generator.integers(0, 2, shape).astype(dtype)
    return arrays


def reference(graph: Graph) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Example inputs of a problem's graph, and the outputs of the reference evaluator, both by name."""
    inputs = example_arrays(graph, seed=1)
    return inputs, evaluate(graph, inputs)


_TOLERANCE = {"float64": 1e-6, "float32": 5e-4, "float16": 2e-2, "bfloat16": 5e-2}
"""Largest error relative to the largest magnitude; Winograd's transforms lose two digits of float32."""


def disagreement(results: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> str:
    """Says what differs between a kernel's results and the reference; "" if nothing does.

    Integers may differ by one (rounding of quantized values) in one element of a hundred.
    """
    for name, wanted in expected.items():
        got = results[name]
        if got.shape != wanted.shape or got.dtype != wanted.dtype:
            return f"{name}: {got.dtype}{list(got.shape)} instead of {wanted.dtype}{list(wanted.shape)}"
        a, b = got.astype(np.float64), wanted.astype(np.float64)
        with np.errstate(invalid="ignore"):
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            error = np.where(same, 0.0, np.abs(a - b))
        if not error.size:
            continue
        tolerance = _TOLERANCE.get(wanted.dtype.name)
        if tolerance is not None:
            finite = np.abs(b[np.isfinite(b)]).max(initial=1e-30)
            if not error.max() <= tolerance * finite:
                return f"{name}: error {error.max():.3g} beside magnitudes up to {finite:.3g}"
        elif not (error.max() <= 1 and np.count_nonzero(error) <= max(1, error.size // 100)):
            return f"{name}: {np.count_nonzero(error)} of {error.size} elements differ, by up to {error.max():.3g}"
    return ""
