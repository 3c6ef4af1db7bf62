"""Operators that are given as functions: by the model, or by the standard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx import AttributeProto, FunctionProto, NodeProto, defs

from edgeir.errors import UnsupportedModelError
from edgeir.frontend.onnx.protos import type_proto
from edgeir.ir import TensorType


def standard_function(
    node: NodeProto, domain: str, opset: int, types: Sequence[TensorType | None]
) -> FunctionProto | None:
    """The body by which the standard defines an operator, for this opset and these input types; None if it has none.

    Raises:
        UnsupportedModelError: the operands are such that the standard gives no body.
    """
    schema = _schema(node, domain, opset)
    if schema is None:
        return None
    try:
        if schema.has_context_dependent_function:
            versions = [version for version in schema.context_dependent_function_opset_versions if version <= opset]
            if versions:
                protos = [type_proto(type).SerializeToString() for type in types]
                text = node.SerializeToString()
                return _parse(schema.get_context_dependent_function_with_opset_version(max(versions), text, protos))
        if schema.has_function:
            versions = [version for version in schema.function_opset_versions if version <= opset]
            if versions:
                return _parse(schema.get_function_with_opset_version(max(versions)))
    except RuntimeError as error:
        raise UnsupportedModelError("the operator's function cannot be built", got=str(error)) from None
    return None


def has_standard_function(node: NodeProto, domain: str, opset: int) -> bool:
    """Whether the standard may give the operator a body."""
    schema = _schema(node, domain, opset)
    return schema is not None and (schema.has_function or schema.has_context_dependent_function)


def _schema(node: NodeProto, domain: str, opset: int) -> Any:
    # Any: the type stubs of onnx leave out the methods for functions.
    try:
        return defs.get_schema(node.op_type, opset, domain)
    except defs.SchemaError:
        return None


def _parse(data: bytes) -> FunctionProto | None:
    function = FunctionProto()
    function.ParseFromString(data)
    return function if function.node else None


def default_attributes(node: NodeProto, domain: str, opset: int) -> dict[str, AttributeProto]:
    """The attribute defaults that the standard gives an operator."""
    schema = _schema(node, domain, opset)
    if schema is None:
        return {}
    defaults = {name: attribute.default_value for name, attribute in schema.attributes.items()}
    return {name: value for name, value in defaults.items() if value.type != AttributeProto.UNDEFINED}


def bind_attributes(node: NodeProto, values: Mapping[str, AttributeProto]) -> NodeProto:
    """A copy of a body's node with references to the function's attributes replaced; unset ones are dropped."""
    copied = NodeProto()
    copied.CopyFrom(node)
    _bind(copied, values)
    return copied


def _bind(node: NodeProto, values: Mapping[str, AttributeProto]) -> None:
    kept: list[AttributeProto] = []
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            value = values.get(attribute.ref_attr_name)
            if value is not None:
                renamed = AttributeProto()
                renamed.CopyFrom(value)
                renamed.name = attribute.name
                kept.append(renamed)
            continue
        if attribute.type == AttributeProto.GRAPH:
            for inner in attribute.g.node:
                _bind(inner, values)
        kept.append(attribute)
    kept = [_copy(attribute) for attribute in kept]
    del node.attribute[:]
    node.attribute.extend(kept)


def _copy(attribute: AttributeProto) -> AttributeProto:
    copied = AttributeProto()
    copied.CopyFrom(attribute)
    return copied


def function_key(domain: str, name: str, overload: str = "") -> tuple[str, str, str]:
    """What a model-local function is found by."""
    return ("" if domain == "ai.onnx" else domain, name, overload)


def model_functions(model: onnx.ModelProto) -> dict[tuple[str, str, str], FunctionProto]:
    """The functions that a model brings along."""
    return {function_key(f.domain, f.name, f.overload): f for f in model.functions}


def captured_names(node: NodeProto) -> set[str]:
    """All names that a node reads, those inside its subgraphs included (names that they define themselves too)."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.type == AttributeProto.GRAPH else []), *attribute.graphs):
            names |= {output.name for output in graph.output}
            for inner in graph.node:
                names |= captured_names(inner)
    return names
