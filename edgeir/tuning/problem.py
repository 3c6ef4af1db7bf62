"""A kernel as text, from which any process can build it again: nothing of TVM crosses a process or reaches a file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import edgeir.ops  # noqa: F401  registers the operators that the text names
from edgeir.errors import EdgeIRError
from edgeir.ir.clone import copy_node
from edgeir.ir.dtype import FLOATS, numpy_dtype
from edgeir.ir.evaluate import evaluate
from edgeir.ir.graph import Graph, Node, Value
from edgeir.ir.parser import parse_graph
from edgeir.lowering.integers import HEADROOMS
from edgeir.lowering.region import region_of
from edgeir.lowering.sparse import SPARSE_ANCHORS, example_weight
from edgeir.lowering.task import Lowering, lower_node
from edgeir.ops.integer import ZERO_POINTS
from edgeir.schedules.sparse_storage import SparsePattern

KERNEL = "kernel"
"""Symbol name of a kernel that is built by itself."""


@dataclass(frozen=True)
class Problem:
    """One node by itself, its operands as inputs.

    Attributes:
        text: IR text of a graph of one node. Constants of one element that belong to the computation stand in it;
            every other operand is an input.
        constants: the inputs that are constants in the model. Their values are of no importance here, except
        weights: for weights of integer sums (or their tables), by name, what their values allow the kernel
            (`Integers`): `pairs` (|w0| + |w1| ≤ 128), `symmetric` (no −128), and of convolutions `headroomN`, N the
            bits that sums leave free, joined by `+`; under the name "" `fit` if the floats that are quantized fit int32
            (`Integers.floats_fit`); for float weights that are mostly zeros `sparse N`, N the pairs of
            their pattern.
    """

    text: str
    constants: tuple[str, ...]
    weights: tuple[tuple[str, str], ...] = ()

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
        return Problem(str(graph), tuple(constants), (*_weights(node, mapping), *_floats(node)))

    def to_text(self) -> str:
        """One line of JSON."""
        data: dict[str, Any] = {"text": self.text, "constants": list(self.constants)}
        return json.dumps(data | ({"weights": [list(pair) for pair in self.weights]} if self.weights else {}))

    @staticmethod
    def from_text(text: str) -> Problem:
        """Reads what `to_text` wrote.

        Raises:
            EdgeIRError: the text is damaged.
        """
        try:
            data = json.loads(text)
            weights = tuple((name, kind) for name, kind in data.get("weights", ()))
            problem = Problem(data["text"], tuple(data["constants"]), weights)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
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
        arrays = example_arrays(parsed, seed) | self._example_weights(parsed, seed)
        if _is_integer(next(iter(parsed.nodes))):
            for value in parsed.inputs:
                if value.name in self.constants and value.type.dtype == "float32":
                    arrays[value.name] = _example_scales(arrays[value.name], _FIT in self.weights)
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

    def _example_weights(self, parsed: Graph, seed: int) -> dict[str, np.ndarray]:
        """Random weights that allow kernels what the model's weights do, and no more."""
        types = {value.name: value.type for value in parsed.inputs}
        generator = np.random.default_rng(seed)
        arrays = {}
        for name, kind in self.weights:
            if (name, kind) == _FIT:
                continue
            if kind.startswith(_SPARSE):
                arrays[name] = _example_sparse(parsed, name, kind)
                continue
            if name not in types or types[name].dtype != "int8":
                raise EdgeIRError("not the text of a kernel", where="weights", expected="int8 inputs", got=name)
            arrays[name] = _example_bytes(generator, types[name].static_shape, kind.split("+"))
        return arrays

    def lowering(self) -> Lowering:
        """The task, and where its arguments come from.

        Raises:
            EdgeIRError: as `graph`, or the operator cannot be compiled.
        """
        return lower_node(next(iter(self.graph().nodes)), KERNEL)


def _weights(node: Node, mapping: Mapping[Value, Value]) -> tuple[tuple[str, str], ...]:
    """What the values of a node's constant weight allow: bytes in integer sums, and floats that are mostly zeros."""
    if (node.attributes["anchor"] if node.op == "fused" else node.op) not in (*ZERO_POINTS, *SPARSE_ANCHORS):
        return ()
    task, region = lower_node(node, KERNEL).task, region_of(node)
    index, integers = task.anchor_operands[1], task.integers
    if task.sparsity is not None and index is not None:
        return ((mapping[region.outer[index]].name, f"{_SPARSE}{task.sparsity.pairs}"),)
    if integers is None or region.anchor is None:
        return ()
    right = region.anchor.input(1)
    if right.producer is not None and right.producer.op == "lookup":
        # The entries of the table decide, whatever the codes are.
        right = right.producer.input(1)
    if right not in region.inputs:
        return ()
    value = region.outer[region.inputs.index(right)]
    if value not in mapping or mapping[value].is_constant:
        return ()
    if value.type.dtype != "int8":
        return ()
    kinds = [name for name, holds in (("pairs", integers.pairs_fit), ("symmetric", integers.symmetric)) if holds]
    if region.anchor.op == "conv_integer":
        kinds.append(f"{_HEADROOM}{integers.headroom}")
    return ((mapping[value].name, "+".join(kinds)),)


def _floats(node: Node) -> tuple[tuple[str, str], ...]:
    """What the constants of an integer kernel allow its floats."""
    integers = lower_node(node, KERNEL).task.integers if _is_integer(node) else None
    return (_FIT,) if integers is not None and integers.floats_fit else ()


def _is_integer(node: Node) -> bool:
    return (node.attributes["anchor"] if node.op == "fused" else node.op) in ZERO_POINTS


def _example_scales(array: np.ndarray, fit: bool) -> np.ndarray:
    """Constants whose products with 32-bit sums fit int32, or do not."""
    if fit:
        return np.clip(array / 8, -0.25, 0.25).astype(array.dtype)
    scaled = array.copy()
    scaled.flat[0] = 1
    return scaled


_FIT = ("", "fit")
_SPARSE = "sparse "
_HEADROOM = "headroom"


def _example_bytes(generator: np.random.Generator, shape: tuple[int, ...], kinds: list[str]) -> np.ndarray:
    """Random weights of bytes that allow what `kinds` says, and no more."""
    bound = 64 if "pairs" in kinds else 127
    found = [kind.removeprefix(_HEADROOM) for kind in kinds if kind.startswith(_HEADROOM)]
    if not found:
        array = generator.integers(-bound, bound + 1, shape).astype(np.int8)
        if "pairs" not in kinds:
            # One row of the greatest magnitude, whichever axis counts the rows.
            array[0] = array[..., 0] = 127
    else:
        headroom = int(found[0]) if found[0].isdecimal() else 0
        # The mean magnitude in a row whose sums still leave the bits free, and a little less.
        mean = min(bound, (2**31 // (255 << headroom) - 512) // max(1, math.prod(shape[1:])))
        array = generator.integers(-mean, mean + 1, shape).astype(np.int8)
        if headroom < max(HEADROOMS):
            array[0] = mean
        if "pairs" not in kinds:
            array[-1, :2, 0, 0] = 127
    if "symmetric" not in kinds:
        array.flat[0] = -128
    return array


def _example_sparse(parsed: Graph, name: str, kind: str) -> np.ndarray:
    """A random weight of a recorded pattern."""
    pairs = kind.removeprefix(_SPARSE)
    pattern = SparsePattern(int(pairs)) if pairs.isdecimal() else None
    weight = None if pattern is None else example_weight(next(iter(parsed.nodes)), name, pattern)
    if weight is None:
        raise EdgeIRError("not the text of a kernel", where="weights", expected="a sparse weight's name", got=name)
    return weight


_BYTES = {"int8": (-128, 128), "uint8": (0, 256)}


def example_arrays(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """Random arrays for a graph's inputs, by name.

    Floats are normal; large ones are scaled by the root of the elements that a sum may run over, so that products stay
    near 1. Bytes are any; other integers are 0 or 1: valid as indices of almost all tables.
    """
    generator = np.random.default_rng(seed)
    arrays = {}
    for value in graph.inputs:
        shape, dtype = value.type.static_shape, numpy_dtype(value.type.dtype)
        if value.type.dtype in FLOATS:
            summed = np.prod(shape[1:]) if len(shape) == 4 else 1.0
            scale = 1.0 / np.sqrt(max(1.0, float(summed))) if len(shape) == 4 and shape[0] > 1 else 1.0
            arrays[value.name] = (generator.standard_normal(shape) * scale).astype(dtype)
        elif value.type.dtype in ("int8", "uint8"):
            arrays[value.name] = generator.integers(*_BYTES[value.type.dtype], shape).astype(dtype)
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
