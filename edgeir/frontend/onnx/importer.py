"""The import itself: ONNX nodes, in order, become IR nodes, with everything known at import folded on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, FunctionProto, NodeProto

from edgeir.errors import EdgeIRError, UnsupportedModelError
from edgeir.frontend.onnx.functions import (
    bind_attributes,
    captured_names,
    default_attributes,
    function_key,
    has_standard_function,
    model_functions,
    standard_function,
)
from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.frontend.onnx.inputs import declare_inputs
from edgeir.frontend.onnx.known_values import (
    FOLD_ELEMENTS,
    LARGEST_KNOWN,
    LARGEST_VALUE,
    evaluate_known,
    known_array,
)
from edgeir.frontend.onnx.problems import Problem, raise_problems
from edgeir.frontend.onnx.protos import attribute_value, element_type, sparse_array, tensor_array
from edgeir.frontend.onnx.registry import find_converter
from edgeir.frontend.onnx.scope import Scope
from edgeir.ir import Dim, Graph, SymbolicDim, Value
from edgeir.ir.dtype import FLOATS, bits
from edgeir.ir.evaluate import evaluate_node
from edgeir.ir.graph import Node

MOST_NODES = 1 << 20
DEEPEST_CALL = 64
FOLD_MACS = 1 << 22


def import_model(
    model: onnx.ModelProto,
    shapes: Mapping[str, Sequence[Dim | str | None]],
    freeze: Mapping[str, np.ndarray],
    folder: Path | None,
) -> Graph:
    """A checked model as a verified graph.

    Raises:
        UnsupportedModelError: nodes cannot be imported; all of them are listed.
        EdgeIRError: the model is not valid, or the shapes do not fit it.
    """
    return Importer(model, folder).run(shapes, freeze)


@dataclass(frozen=True)
class Context:
    """Where nodes stand: the versions in force and the functions being expanded.

    Attributes:
        opsets: domain → version.
        prefix: what names of values and locations start with.
        depth: number of functions being expanded.
    """

    opsets: Mapping[str, int]
    prefix: str = ""
    depth: int = 0


class Importer:
    """State of one import."""

    def __init__(self, model: onnx.ModelProto, folder: Path | None) -> None:
        self.model = model
        self.folder = folder
        self.graph = Graph(model.graph.name or "graph")
        self.functions = model_functions(model)
        self.symbolic: dict[Value, np.ndarray] = {}
        self.problems: list[Problem] = []
        self.converted = 0
        self.created: list[Value] = []

    def run(self, shapes: Mapping[str, Sequence[Dim | str | None]], freeze: Mapping[str, np.ndarray]) -> Graph:
        """Imports the model."""
        proto = self.model.graph
        scope = Scope()
        self.add_initializers(proto, scope)
        for name, array in declare_inputs(self.graph, proto, shapes, freeze).items():
            scope.values[name] = self.graph.add_constant(array, name)
        scope.values.update({value.name: value for value in self.graph.inputs})
        context = Context(_opsets(self.model.opset_import))
        outputs = [output.name for output in proto.output]
        self.convert_nodes(proto.node, scope, context, outputs)
        symbols = sorted(frozenset().union(*(value.type.symbols() for value in self.graph.inputs)))
        raise_problems(self.problems, symbols)
        self.graph.set_outputs([(name, self.result(scope, name)) for name in outputs])
        self.check_outputs(proto)
        for node in self.graph.reversed_nodes:
            if not any(value.is_used for value in node.outputs):
                self.graph.erase(node)
        self.graph.remove_unused_constants()
        self.graph.verify()
        return self.graph

    def check_outputs(self, proto: onnx.GraphProto) -> None:
        """Compares the outputs with what the model declares; shapes are not, as exporters often get them wrong.

        Raises:
            EdgeIRError: an element type differs.
        """
        for declared, value in zip(proto.output, self.graph.outputs, strict=True):
            tensor = declared.type.tensor_type
            if tensor.elem_type and element_type(tensor.elem_type) != value.type.dtype:
                raise EdgeIRError(
                    "an output differs from its declared type",
                    where=f"output {declared.name!r}",
                    expected=element_type(tensor.elem_type),
                    got=value.type,
                )

    def result(self, scope: Scope, name: str) -> Value:
        """The value that an output names."""
        value = scope.lookup(name)
        if value is None:
            raise EdgeIRError("the graph does not compute an output", got=name)
        return value

    # Nodes

    def add_initializers(self, proto: onnx.GraphProto, scope: Scope) -> None:
        """Makes a graph's weights known; each becomes a constant when a node first reads it."""
        for tensor in proto.initializer:
            scope.declare(tensor.name, lambda t=tensor: self.graph.add_constant(tensor_array(t, self.folder), t.name))
        for sparse in proto.sparse_initializer:
            name = sparse.values.name
            scope.declare(name, lambda s=sparse, n=name: self.graph.add_constant(sparse_array(s), n))

    def convert_nodes(self, nodes: Sequence[NodeProto], scope: Scope, context: Context, outputs: Sequence[str]) -> None:
        """Converts the nodes that the outputs depend on; problems are collected, and what depends on them skipped."""
        needed, kept = set(outputs), []
        for node in reversed(nodes):
            if any(name in needed for name in node.output):
                kept.append(node)
                needed |= captured_names(node)
        for node in reversed(kept):
            self.converted += 1
            if self.converted > MOST_NODES:
                raise EdgeIRError("the model expands to too many nodes", expected=f"at most {MOST_NODES}")
            label = node.name or f"{node.op_type}:{next((name for name in node.output if name), '')}"
            location = context.prefix + label
            domain = "" if node.domain == "ai.onnx" else node.domain
            opset = context.opsets.get(domain, 1)
            first = len(self.created)
            results: Sequence[Value | None] = []
            try:
                results = self.convert_node(node, domain, opset, scope, context, location)
                missing = [name for name, value in zip(node.output, results, strict=False) if name and value is None]
                missing += [name for name in node.output[len(results) :] if name]
                if missing:
                    raise UnsupportedModelError(f"output {missing[0]!r} is not supported")
            except _Poisoned:
                pass
            except EdgeIRError as error:
                self.problems.append(Problem.of(error, location, node.op_type, domain, opset))
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                # Malformed operands surface in numpy or in Python; the node is refused like any other.
                self.problems.append(Problem(location, node.op_type, domain, opset, f"malformed: {error!r}"))
            fresh = set(self.created[first:])
            del self.created[first:]
            for index, name in enumerate(node.output):
                value = results[index] if index < len(results) else None
                if name:
                    scope.values[name] = value
                if name and value is not None and value in fresh:
                    self.graph.rename(value, self.graph.fresh_name(context.prefix + name))
                    fresh.discard(value)

    def convert_node(
        self, node: NodeProto, domain: str, opset: int, scope: Scope, context: Context, location: str
    ) -> Sequence[Value | None]:
        """The results of one node.

        Raises:
            UnsupportedModelError: nothing converts it.
        """
        function = self.functions.get(function_key(node.domain, node.op_type, node.overload))
        converter = find_converter(domain, node.op_type) if function is None else None
        inputs: list[Value | None] = []
        poisoned = False
        for name in node.input:
            given = bool(name) and not scope.is_absent(name)
            value = scope.lookup(name) if given else None
            poisoned = poisoned or (given and value is None)
            inputs.append(value)
        if node.op_type == "If" and domain == "" and not poisoned:
            return self.convert_if(node, inputs[0], scope, context, location)
        if poisoned:
            # Its own lack of support still belongs in the list.
            if converter is None and function is None and not has_standard_function(node, domain, opset):
                raise UnsupportedModelError(_no_converter(node, domain))
            raise _Poisoned
        if function is not None:
            return self.expand(function, node, inputs, {}, context, location)
        if converter is not None:
            attributes = {a.name: attribute_value(a, self.folder) for a in node.attribute}
            results = converter(ImportNode(self, node, domain, opset, inputs, attributes, location))
            return [results] if isinstance(results, Value) else results
        types = [None if value is None else value.type for value in inputs]
        body = standard_function(node, domain, opset, types)
        if body is None:
            raise UnsupportedModelError(_no_converter(node, domain))
        return self.expand(body, node, inputs, default_attributes(node, domain, opset), context, location)

    def expand(
        self,
        function: FunctionProto,
        node: NodeProto,
        inputs: Sequence[Value | None],
        defaults: Mapping[str, AttributeProto],
        context: Context,
        location: str,
    ) -> Sequence[Value | None]:
        """Converts the body of a function in place of a node that calls it."""
        if context.depth >= DEEPEST_CALL:
            raise EdgeIRError("functions call each other too deeply", got=function.name, expected=DEEPEST_CALL)
        attributes = dict(defaults) | {a.name: a for a in function.attribute_proto}
        attributes |= {a.name: a for a in node.attribute}
        scope = Scope(absent={name for name, value in zip(function.input, inputs, strict=False) if value is None})
        scope.absent |= set(function.input[len(inputs) :])
        scope.values.update({n: v for n, v in zip(function.input, inputs, strict=False) if v is not None})
        inner = replace(
            context,
            opsets=dict(context.opsets) | _opsets(function.opset_import),
            prefix=f"{location}/",
            depth=context.depth + 1,
        )
        wanted = [name for name, given in zip(function.output, node.output, strict=False) if given]
        count = len(self.problems)
        nodes = [bind_attributes(n, attributes) for n in function.node]
        self.convert_nodes(nodes, scope, inner, wanted)
        if len(self.problems) > count:
            raise _Poisoned
        results = [self.result(scope, name) if name in wanted else None for name in function.output]
        self.created += [value for value in results if value is not None and value not in inputs]
        return results

    def convert_if(
        self, node: NodeProto, condition: Value | None, scope: Scope, context: Context, location: str
    ) -> Sequence[Value | None]:
        """The branch that a constant condition chooses, in place of the node."""
        if condition is None or not condition.is_constant or condition.data.size != 1:
            raise UnsupportedModelError("control flow whose condition is not known at import")
        name = "then_branch" if bool(condition.data.reshape(())) else "else_branch"
        branch = next(a.g for a in node.attribute if a.name == name)
        child = Scope(parent=scope)
        self.add_initializers(branch, child)
        outputs = [output.name for output in branch.output]
        count = len(self.problems)
        self.convert_nodes(branch.node, child, replace(context, prefix=f"{location}/"), outputs)
        if len(self.problems) > count:
            raise _Poisoned
        results = [child.lookup(output) for output in outputs]
        self.created += [v for v in results if v is not None and v.name.startswith(f"{location}/")]
        return results

    # IR

    def emit(
        self, op: str, inputs: Sequence[Value | None], attributes: Mapping[str, Any], location: str, stem: str
    ) -> list[Value]:
        """Adds an IR node and returns its results; what is known at import becomes known instead."""
        known = self.emit_known(op, inputs, attributes, location, stem)
        if known is not None:
            return [known]
        node = self.graph.add_node(op, inputs, attributes, names=[f"{stem}.{op}"], location=location)
        for value in node.outputs:
            elements = value.type.elements
            if isinstance(elements, int) and elements > LARGEST_VALUE:
                raise EdgeIRError("a tensor is too large", where=location, got=value.type, expected=LARGEST_VALUE)
        results = list(node.outputs)
        if self.is_foldable(node):
            arrays = evaluate_node(node, [None if value is None else value.data for value in node.inputs])
            self.graph.erase(node)
            results = [self.graph.add_constant(np.asarray(a, order="C"), f"{stem}.{op}") for a in arrays]
        self.created += results
        return results

    def emit_known(
        self, op: str, inputs: Sequence[Value | None], attributes: Mapping[str, Any], location: str, stem: str
    ) -> Value | None:
        """The result of integer arithmetic on shapes, or None where it is not that."""
        if not any(value in self.symbolic for value in inputs):
            return None
        arrays = [None if value is None else self.known(value) for value in inputs]
        present = [array for array in arrays if array is not None]
        if len(present) != len(arrays):
            return None
        real = inputs[0] is not None and inputs[0].type.dtype in FLOATS
        result = evaluate_known(op, present, attributes, real)
        if result is None:
            return None
        if op in ("equal", "less", "less_equal", "greater", "greater_equal"):
            return self.add_constant(np.asarray(result, dtype=bool), f"{stem}.{op}")
        first = inputs[-1] if op == "where" else inputs[0]
        dtype = attributes["dtype"] if op == "cast" else first.type.dtype  # type: ignore[union-attr]
        return self.dims_value(result, result.shape, location, stem, dtype)

    def dims_value(
        self,
        dims: Sequence[Dim] | np.ndarray,
        shape: Sequence[int] | None,
        location: str,
        stem: str,
        dtype: str = "int64",
    ) -> Value:
        """An integer value that holds dimensions: a constant, or a `dims` node."""
        array = known_array(dims, shape)
        if not any(isinstance(dim, SymbolicDim) for dim in array.ravel()):
            return self.add_constant(array.astype(dtype), f"{stem}.dims")
        name = [f"{stem}.dims"]
        node = self.graph.add_node("dims", [], {"values": array.ravel().tolist()}, names=name, location=location)
        if array.ndim != 1:
            node = self.graph.add_node("reshape", [node.output], {"shape": array.shape}, names=name, location=location)
        if dtype != "int64":
            node = self.graph.add_node("cast", [node.output], {"dtype": dtype}, names=name, location=location)
        self.symbolic[node.output] = array
        self.created.append(node.output)
        return node.output

    def add_constant(self, array: np.ndarray, name: str) -> Value:
        """A constant of the graph."""
        value = self.graph.add_constant(array, name)
        self.created.append(value)
        return value

    def known(self, value: Value, limit: int | None = LARGEST_KNOWN) -> np.ndarray | None:
        """An integer value as an array of dimensions, where it is constant or computed from shapes.

        With a limit on the size, also a float constant of whole numbers.
        """
        if value in self.symbolic:
            return self.symbolic[value]
        if not value.is_constant or (limit is not None and value.data.size > limit):
            return None
        if value.type.dtype in FLOATS:
            data = value.data.astype(np.float64)
            if limit is None or not (np.isfinite(data) & (data == np.floor(data))).all():
                return None
            return known_array(data, data.shape)
        return known_array(value.data, value.data.shape)

    def is_foldable(self, node: Node) -> bool:
        """Whether a node has constant operands only, and is small."""
        if any(not value.is_constant for value in node.present_inputs):
            return False
        if any(not value.type.is_static for value in node.outputs) or _decompresses(node):
            return False
        sizes = [value.type.elements for value in (*node.present_inputs, *node.outputs)]
        if any(not isinstance(size, int) or size > FOLD_ELEMENTS for size in sizes):
            return False
        types = [None if value is None else value.type for value in node.inputs]
        macs = node.definition.macs(types, [value.type for value in node.outputs], node.attributes)
        return isinstance(macs, int) and macs <= FOLD_MACS


class _Poisoned(Exception):
    """A node depends on one that could not be converted."""


def _decompresses(node: Node) -> bool:
    """Whether it widens weights that the model keeps small; passes decide about those."""
    if node.op not in ("cast", "dequantize") or node.input(0).data.size <= LARGEST_KNOWN:
        return False
    narrow, wide = node.input(0).type.dtype, node.output.type.dtype
    return narrow != "bool" and wide in FLOATS and bits(narrow) < bits(wide)


def _no_converter(node: NodeProto, domain: str) -> str:
    if domain == "" and any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attribute):
        return "control flow is not supported"
    return "operator not supported" if domain == "" else f"operators of domain {domain} are not supported"


def _opsets(entries: Sequence[onnx.OperatorSetIdProto]) -> dict[str, int]:
    return {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in entries}
