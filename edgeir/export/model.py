"""A graph as an ONNX model, in memory and on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import helper

import edgeir.export.operators  # noqa: F401  (registers the exporters)
from edgeir.errors import EdgeIRError
from edgeir.export.dimensions import Dimensions
from edgeir.export.element_types import OPSET, element_code
from edgeir.export.export_node import ExportNode
from edgeir.export.registry import find_exporter
from edgeir.export.writer import Writer
from edgeir.ir import Graph, Node, TensorType, Value

IR_VERSION = 10
"""The ONNX file format that goes with operator set 21."""

EXTERNAL_BYTES = 1_500_000_000
"""Above this size, tensors go to a file beside the model: protobuf messages end at 2 GiB."""

_FORMATS = ("float", "qdq")


def to_onnx(graph: Graph) -> onnx.ModelProto:
    """A graph as a standard ONNX model (operator set 21), checked by ONNX's checker.

    Layouts and fusion are not part of ONNX: `layout_cast` vanishes, and the bodies of `fused` nodes stand in their
    place. Symbolic dimensions become `dim_param`.

    Raises:
        EdgeIRError: an operator or element type has no form in ONNX.
    """
    inputs, outputs = [value.name for value in graph.inputs], list(graph.output_names)
    writer = Writer({*inputs, *outputs})
    names: dict[Value, str] = {value: value.name for value in graph.inputs}
    dimensions = Dimensions(writer, [(value.name, value) for value in graph.inputs])
    _Body(writer, dimensions, names).run(graph)
    for name, value in zip(outputs, graph.outputs, strict=True):
        source = _name(value, names, writer)
        if source != name:
            if name in inputs:
                raise EdgeIRError("an output has the name of another input", where=f"graph {graph.name!r}", got=name)
            writer.node("Identity", [source], output=name)
    _bypass_identities(writer, inputs)
    proto = helper.make_graph(
        writer.nodes,
        graph.name or "graph",
        [_value_info(value.name, value.type) for value in graph.inputs],
        [_value_info(name, value.type) for name, value in zip(outputs, graph.outputs, strict=True)],
        writer.initializers,
    )
    model = helper.make_model(
        proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="edgeir"
    )
    return model


def save(model: onnx.ModelProto, path: str | Path, external_bytes: int = EXTERNAL_BYTES) -> None:
    """Writes a model; one above `external_bytes` keeps its tensors in `path` + `.data`.

    Raises:
        EdgeIRError: the file cannot be written.
    """
    path = Path(path)
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    try:
        if size > external_bytes:
            companion = path.with_name(path.name + ".data")
            companion.unlink(missing_ok=True)
            copied = onnx.ModelProto()
            copied.CopyFrom(model)
            onnx.save(copied, str(path), save_as_external_data=True, location=companion.name, size_threshold=1024)
        else:
            onnx.save(model, str(path))
    except OSError as error:
        raise EdgeIRError("cannot write the model", where=str(path), got=str(error)) from None


def is_quantized(graph: Graph) -> bool:
    """Whether a graph (or a fused body in it) holds `quantize` or `dequantize` nodes."""
    for node in graph.nodes:
        body = node.attributes.get("body")
        if node.op in ("quantize", "dequantize") or (isinstance(body, Graph) and is_quantized(body)):
            return True
    return False


def export_model(graph: Graph, path: str | Path, format: str = "float") -> onnx.ModelProto:
    """Writes a graph as an ONNX file; see `to_onnx` and `save`.

    Args:
        graph: the graph.
        path: the file.
        format: `float`: whatever the graph holds; `qdq`: the graph must be quantized, as NPU tool chains want it.

    Raises:
        EdgeIRError: unknown format, a graph without quantization for `qdq`, or what `to_onnx` and `save` raise.
    """
    if format not in _FORMATS:
        raise EdgeIRError("unknown export format", expected=" | ".join(_FORMATS), got=format)
    if format == "qdq" and not is_quantized(graph):
        raise EdgeIRError(
            "the graph is not quantized",
            where=f"graph {graph.name!r}",
            expected="quantize and dequantize nodes",
            got="none",
            hint="quantize the model first, or export with --format float",
        )
    model = to_onnx(graph)
    save(model, path)
    return model


def _value_info(name: str, type: TensorType) -> onnx.ValueInfoProto:
    shape = [dim if isinstance(dim, int) else str(dim) for dim in type.shape]
    return helper.make_tensor_value_info(name, element_code(type.dtype), shape)


def _name(value: Value, names: Mapping[Value, str], writer: Writer) -> str:
    return writer.constant(value.data, value.name) if value.is_constant else names[value]


class _Body:
    """Exports the nodes of a graph, or of a fused body, into one ONNX graph."""

    def __init__(self, writer: Writer, dimensions: Dimensions, names: dict[Value, str]) -> None:
        self._writer = writer
        self._dimensions = dimensions
        self._names = names

    def run(self, graph: Graph) -> None:
        for node in graph.nodes:
            self._node(node)

    def name(self, value: Value) -> str:
        return _name(value, self._names, self._writer)

    def _node(self, node: Node) -> None:
        if node.op == "fused":
            body: Graph = node.attributes["body"]
            for inner, outer in zip(body.inputs, node.present_inputs, strict=True):
                self._names[inner] = self.name(outer)
            self.run(body)
            for value, inner in zip(node.outputs, body.outputs, strict=True):
                self._names[value] = self.name(inner)
            return
        if node.op == "layout_cast":
            self._names[node.output] = self.name(node.input(0))
            return
        self._writer.location = node.location or node.outputs[0].name
        context = ExportNode(node, self._writer, self._dimensions, self.name)
        results = find_exporter(node.op)(context)
        results = [results] if isinstance(results, str) else results
        self._names.update(zip(node.outputs, results, strict=True))


def _bypass_identities(writer: Writer, inputs: list[str]) -> None:
    """Lets the node that computes an output carry its name, where an Identity only renames its result."""
    producers = {name: node for node in writer.nodes for name in node.output}
    constants = {tensor.name for tensor in writer.initializers}
    renamed: dict[str, str] = {}
    kept = []
    for node in writer.nodes:
        source = node.input[0] if node.op_type == "Identity" else ""
        if source and source not in inputs and source not in constants and source not in renamed:
            producer = producers[source]
            if producer.op_type != "Identity":
                renamed[source] = node.output[0]
                continue
        kept.append(node)
    for node in kept:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name in renamed:
                    names[position] = renamed[name]
    del writer.nodes[:]
    writer.nodes.extend(kept)
