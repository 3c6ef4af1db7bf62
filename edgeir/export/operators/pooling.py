"""Maximum and average over sliding windows."""

from __future__ import annotations

from edgeir.export.export_node import ExportNode
from edgeir.export.registry import exporter


@exporter("max_pool", "average_pool")
def pool(node: ExportNode) -> str:
    """MaxPool or AveragePool."""
    attributes = {
        "kernel_shape": node.attribute("kernel"),
        "strides": node.attribute("strides"),
        "pads": node.attribute("padding"),
        # Left out where it says nothing: onnxruntime copies it to quantized pooling, which does not know it.
        "dilations": node.attribute("dilations") if max(node.attribute("dilations"), default=1) > 1 else None,
        "ceil_mode": int(node.attribute("ceil_mode")) or None,
    }
    if node.op == "max_pool":
        return node.widened("MaxPool", [node.input(0)], [0], **attributes)
    include = int(node.attribute("count_include_pad")) or None
    return node.widened("AveragePool", [node.input(0)], [0], count_include_pad=include, **attributes)
