"""Makes padding with zeros part of the convolution or average that reads it.

    %p = pad(%x) {padding = [0, 0, 1, 1, 0, 0, 1, 1]} : float32[1, 3, 10, 10]
    %y = conv(%p, %w) {strides = [1, 1], padding = [0, 0, 0, 0], dilations = [1, 1]} : float32[1, 8, 8, 8]

becomes

    %y = conv(%x, %w) {strides = [1, 1], padding = [1, 1, 1, 1], dilations = [1, 1]} : float32[1, 8, 8, 8]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from edgeir.ir import Graph, Node
from edgeir.passmanager import Pass, PassContext, register_pass
from edgeir.rewrite import Match, Rewriter, RewriteRule, op


def _pads_space_with_zeros(node: Node) -> bool:
    padding, rank = node.attributes["padding"], node.output.type.rank
    if node.attributes["mode"] != "constant" or rank < 3 or any(padding[axis] for axis in (0, 1, rank, rank + 1)):
        return False
    value = node.inputs[1] if len(node.inputs) > 1 else None
    return value is None or (value.is_constant and not value.data.astype("float64").any())


def spatial(padding: tuple[int, ...]) -> tuple[int, ...]:
    """The spatial part of begins and ends over all axes."""
    rank = len(padding) // 2
    return (*padding[2:rank], *padding[rank + 2 :])


class PadRule(RewriteRule):
    """conv(pad(x)) → conv(x); average_pool(pad(x)) → average_pool(x), counting the padding."""

    name = "fold-pad"
    pattern = op(("conv", "average_pool"), op("pad", where=_pads_space_with_zeros, name="pad"))

    def check(self, match: Match) -> str | None:
        """An average must count the zeros as before."""
        node = match.root
        if node.op == "conv":
            return None
        attributes = node.attributes
        if attributes["ceil_mode"]:
            return "windows that overhang count differently"
        if any(attributes["padding"]) and not attributes["count_include_pad"]:
            return "padding of two kinds"
        added = self._padding(match)
        if any(size >= kernel for size, kernel in zip(added, attributes["kernel"] * 2, strict=True)):
            return "a window would lie in the padding"
        return None

    def _padding(self, match: Match) -> tuple[int, ...]:
        outer = spatial(match.node("pad").attributes["padding"])
        return tuple(a + b for a, b in zip(outer, match.root.attributes["padding"], strict=True))

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Adds the padding up."""
        node = match.root
        changes: dict[str, Any] = {"padding": self._padding(match)}
        if node.op == "average_pool":
            changes["count_include_pad"] = True
        operands = (match.node("pad").input(0), *node.inputs[1:])
        layouts = [value.type.layout for value in node.outputs] if node.op == "conv" else None
        attributes = {**node.attributes, **changes}
        rewriter.replace(*rewriter.node(node.op, *operands, layouts=layouts, **attributes).outputs)


@register_pass
@dataclass(frozen=True)
class FoldPad(Pass):
    """Folds zero padding of spatial axes into the convolutions and average pools that read it."""

    name: ClassVar[str] = "fold-pad"

    def run(self, graph: Graph, context: PassContext) -> None:
        """Rewrites the graph."""
        context.apply(graph, (PadRule(),))
