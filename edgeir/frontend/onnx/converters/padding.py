"""Borders added and removed."""

from __future__ import annotations

from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.frontend.onnx.registry import converter
from edgeir.ir import Value


@converter("Pad")
def pad(node: ImportNode) -> Value:
    """x with borders; negative amounts crop."""
    x = node.input(0)
    rank, mode = x.type.rank, node.attribute("mode", "constant")
    value: Value | None = None
    if node.opset < 11:
        pads = tuple(node.attribute("pads"))
        fill = node.attribute("value", 0.0)
        if mode == "constant" and fill:
            value = node.scalar(fill, x)
    else:
        pads = node.integers(1)
        value = node.optional(2) if mode == "constant" else None
        if node.optional(3) is not None:
            axes = [node.axis(axis, rank) for axis in node.integers(3)]
            if len(pads) != 2 * len(axes):
                node.unsupported(f"{len(pads)} amounts for {len(axes)} axes")
            full = [0] * 2 * rank
            for index, axis in enumerate(axes):
                full[axis], full[axis + rank] = pads[index], pads[index + len(axes)]
            pads = tuple(full)
    if len(pads) != 2 * rank:
        node.unsupported(f"{len(pads)} amounts for rank {rank}")
    if value is not None and value.type.rank:
        value = node.reshape(value, ())
    crops = [min(amount, 0) for amount in pads]
    if any(crops):
        if mode != "constant" and any(amount > 0 for amount in pads):
            node.unsupported(f"mode {mode} with negative and positive amounts")
        sizes = [dim + crops[axis] + crops[axis + rank] for axis, dim in enumerate(x.type.shape)]
        if any(isinstance(size, int) and size < 0 for size in sizes):
            node.unsupported(f"amounts {list(pads)} crop more than there is of {x.type}")
        x = node.emit("slice", x, starts=[-crop for crop in crops[:rank]], sizes=sizes, steps=[1] * rank)
    pads = tuple(max(amount, 0) for amount in pads)
    return node.emit("pad", x, value, padding=pads, mode=mode) if any(pads) else x
