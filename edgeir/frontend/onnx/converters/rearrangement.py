"""Elements in another order or place."""

from __future__ import annotations

from edgeir.frontend.onnx.import_node import ImportNode
from edgeir.frontend.onnx.registry import converter
from edgeir.ir import Dim, Value
from edgeir.ir.dims import floor_divide


@converter("Transpose")
def transpose(node: ImportNode) -> Value:
    """Axes in another order; reversed by default."""
    x = node.input(0)
    return node.transpose(x, node.attribute("perm") or list(range(x.type.rank))[::-1])


@converter("Concat")
def concat(node: ImportNode) -> Value:
    """Operands one after the other along an axis."""
    operands = [node.input(index) for index in range(len(node.inputs))]
    axis = node.axis(node.attribute("axis", 1), operands[0].type.rank)
    return operands[0] if len(operands) == 1 else node.emit("concat", *operands, axis=axis)


@converter("Tile")
def tile(node: ImportNode) -> Value:
    """x repeated along every axis."""
    repeats = node.dims(1)
    return node.input(0) if all(count == 1 for count in repeats) else node.emit("tile", node.input(0), repeats=repeats)


@converter("Trilu")
def trilu(node: ImportNode) -> Value:
    """A triangle of the last two axes."""
    k = 0 if node.optional(1) is None else int(node.constant(1).reshape(()))
    return node.emit("trilu", node.input(0), upper=bool(node.attribute("upper", 1)), k=k)


@converter("DepthToSpace")
def depth_to_space(node: ImportNode) -> Value:
    """Channels moved into blocks of pixels: (N, C·b², H, W) → (N, C, H·b, W·b)."""
    x, block = node.input(0), node.attribute("blocksize")
    n, c, h, w = _image(node)
    depth = floor_divide(c, block * block)
    if node.attribute("mode", "DCR") == "DCR":
        parts = node.reshape(x, (n, block, block, depth, h, w))
        moved = node.transpose(parts, (0, 3, 4, 1, 5, 2))
    else:
        parts = node.reshape(x, (n, depth, block, block, h, w))
        moved = node.transpose(parts, (0, 1, 4, 2, 5, 3))
    return node.reshape(moved, (n, depth, h * block, w * block))


@converter("SpaceToDepth")
def space_to_depth(node: ImportNode) -> Value:
    """Blocks of pixels moved into channels: (N, C, H, W) → (N, C·b², H / b, W / b)."""
    x, block = node.input(0), node.attribute("blocksize")
    n, c, h, w = _image(node)
    rows, columns = floor_divide(h, block), floor_divide(w, block)
    if rows * block != h or columns * block != w:
        node.unsupported(f"block size {block} does not divide {x.type}: fix symbolic sizes with shapes=…")
    moved = node.transpose(node.reshape(x, (n, c, rows, block, columns, block)), (0, 3, 5, 1, 2, 4))
    if node.attribute("mode", "DCR") == "CRD":
        moved = node.transpose(node.reshape(x, (n, c, rows, block, columns, block)), (0, 1, 3, 5, 2, 4))
    return node.reshape(moved, (n, c * block * block, rows, columns))


def _image(node: ImportNode) -> tuple[Dim, ...]:
    if node.type(0).rank != 4:
        node.unsupported(f"an image batch (N, C, H, W) is needed, got {node.type(0)}")
    return node.type(0).shape
