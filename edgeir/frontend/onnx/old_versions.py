"""Models of opset 6, before numpy's broadcasting: brought to opset 7 by the standard's own converter."""

from __future__ import annotations

import onnx
from onnx import helper, shape_inference, version_converter

from edgeir.errors import UnsupportedModelError
from edgeir.frontend.onnx.external_data import is_external, model_tensors

NATIVE_OPSET = 7
"""The oldest version that the converters of nodes know."""


def upgraded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in a version that the import knows; the model itself where it already is.

    Raises:
        UnsupportedModelError: it cannot be converted.
    """
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions or min(versions) >= NATIVE_OPSET:
        return model
    if any(is_external(tensor) for tensor in model_tensors(model)):
        raise UnsupportedModelError("the model's opset is too old for external data", got=f"opset {min(versions)}")
    try:
        copied = onnx.ModelProto()
        copied.CopyFrom(model)
        _spread_slopes(copied)
        return version_converter.convert_version(copied, NATIVE_OPSET)
    except UnsupportedModelError:
        raise
    except Exception as error:  # The converter is C++ and raises what its assertions say.
        raise UnsupportedModelError(
            "the model's opset is too old, and it cannot be converted",
            expected=f"opset {NATIVE_OPSET} or later",
            got=f"opset {min(versions)}: {str(error).strip()[:500]}",
        ) from None


def _spread_slopes(model: onnx.ModelProto) -> None:
    """PRelu of opset 6 has one slope per channel, along axis 1; the converter leaves it to broadcast from the right."""
    if not any(node.op_type == "PRelu" for node in model.graph.node):
        return
    graph = shape_inference.infer_shapes(model).graph
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }
    ranks |= {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    taken = {name for node in graph.node for name in (*node.input, *node.output)} | set(ranks)
    nodes = []
    for index, node in enumerate(model.graph.node):
        if node.op_type == "PRelu":
            data, slope = node.input
            if data not in ranks or slope not in ranks:
                raise UnsupportedModelError("PRelu of opset 6 needs operands of known rank", where=node.name or data)
            if ranks[slope] == 1 and ranks[data] > 2:
                name = f"{slope}.per_channel.{index}"
                while name in taken:
                    name += "_"
                axes = list(range(1, ranks[data] - 1))
                nodes.append(helper.make_node("Unsqueeze", [slope], [name], axes=axes))
                node.input[1] = name
        nodes.append(node)
    copies = [onnx.NodeProto() for _ in nodes]
    for copied, node in zip(copies, nodes, strict=True):
        copied.CopyFrom(node)
    del model.graph.node[:]
    model.graph.node.extend(copies)
