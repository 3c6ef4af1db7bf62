"""Blocked layouts for chains of convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, Node, Value
from edgeir.passes.layout.layout_problem import CONVOLUTIONS, LayoutProblem, can_block, layout_problem
from edgeir.passmanager import Pass, PassContext, register_pass


@register_pass
@dataclass(frozen=True)
class AssignLayouts(Pass):
    """Stores activations with channels in blocks of the target's vector width, with as few casts as possible.

        %1 = conv(%x, %w) {…} : float32[1, 32, 112, 112]
        %2 = relu(%1) : float32[1, 32, 112, 112]
        %3 = softmax(%2) {axis = 1} : float32[1, 32, 112, 112]
    →
        %1 = conv(%x, %w) {…} : float32[1, 32, 112, 112]{NCHW8c}
        %2 = relu(%1) : float32[1, 32, 112, 112]{NCHW8c}
        %4 = layout_cast(%2) {layout = ""} : float32[1, 32, 112, 112]
        %3 = softmax(%4) {axis = 1} : float32[1, 32, 112, 112]

    The assignment is the minimum cut of `layout_problem`. It needs fixed shapes, and the target in the context unless
    `block` is given.

    Attributes:
        block: elements of a channel block; 0 for the target's float32 lanes. Nothing happens below 2, and on a GPU,
            where neighbouring threads read neighbouring pixels.
        halved: names of values that have blocks of half that size, and with each all that must have its layout.
    """

    name: ClassVar[str] = "assign-layouts"
    block: int = 0
    halved: tuple[str, ...] = ()

    def run(self, graph: Graph, context: PassContext) -> None:
        """Assigns layouts.

        Raises:
            EdgeIRError: `block` is 0 and the context has no target, or a value of `halved` has no blocks.
        """
        solved = self._solve(graph, context)
        if solved is None:
            return
        problem, blocked = solved
        layouts = [f"NCHW{problem.block}c" if label else "" for label in blocked]
        chains = problem.chains(graph, blocked) if self.halved else []
        for name in self.halved:
            groups = next((chain.groups for chain in chains if name in chain.values), None)
            if groups is None or problem.block % 2:
                expected = f"a value in blocks of {problem.block}, which can be halved"
                raise EdgeIRError("no layout to halve", where=f"pass {self.name}", expected=expected, got=name)
            for group in groups:
                layouts[group] = f"NCHW{problem.block // 2}c"
        _Rewriter(graph, layouts, problem.produced, problem.consumed).run()

    def alternatives(self, graph: Graph, context: PassContext) -> tuple[Pass, ...]:
        """No blocks; halves of all; halves of one chain more, where they leave fewer lanes empty."""
        solved = self._solve(graph, context)
        if solved is None:
            return ()
        problem, blocked = solved
        if problem.block % 2 or problem.block < 4:
            return (replace(self, block=1, halved=()),)
        found: list[Pass] = []
        if not self.halved:
            found = [replace(self, block=1), replace(self, block=problem.block // 2)]
        for chain in problem.chains(graph, blocked):
            if chain.wasted(problem.block) > chain.wasted(problem.block // 2) and not chain.values & set(self.halved):
                found.append(replace(self, halved=(*self.halved, chain.first)))
        return tuple(found)

    def _solve(self, graph: Graph, context: PassContext) -> tuple[LayoutProblem, list[bool]] | None:
        """The problem and its solution; None where everything stays plain."""
        if all(node.op not in CONVOLUTIONS or not can_block(node.output.type) for node in graph.nodes):
            return None
        block = self.block or _lanes(context.require_target(self.name))
        if block < 2:
            return None
        problem = layout_problem(graph, block)
        blocked = problem.solve(graph)
        return (problem, blocked) if any(blocked) else None


def _lanes(target: Any) -> int:
    return 1 if target.gpu is not None else target.lanes(32)


class _Rewriter:
    """Copies every node with its new layouts beside the old one, then erases the old ones."""

    def __init__(
        self,
        graph: Graph,
        layouts: Sequence[str],
        produced: Mapping[Value, int],
        consumed: Mapping[tuple[Node, int], int],
    ) -> None:
        self.graph = graph
        self.layouts = layouts
        self.produced = produced
        self.consumed = consumed
        self.copies: dict[Value, Value] = {}
        self.casts: dict[tuple[Value, str], Value] = {}

    def run(self) -> None:
        graph = self.graph
        old = list(graph.nodes)
        for node in old:
            operands = []
            for position, value in enumerate(node.inputs):
                group = self.consumed.get((node, position), 0)
                operands.append(None if value is None else self.read(value, self.layouts[group], node))
            layouts = [self.layouts[self.produced.get(v, 0)] for v in node.outputs]
            copy = graph.add_node(
                node.op,
                operands,
                node.attributes,
                names=[value.name for value in node.outputs],
                location=node.location,
                output_layouts=layouts,
            )
            self.copies.update(zip(node.outputs, copy.outputs, strict=True))
        outputs = [self.read(value, "", None) for value in graph.outputs]
        graph.set_outputs(list(zip(graph.output_names, outputs, strict=True)))
        names = {copy: value.name for value, copy in self.copies.items()}
        for node in reversed(old):
            graph.erase(node)
        for value, name in names.items():
            graph.rename(value, name)
        graph.remove_unused_constants()

    def read(self, value: Value, layout: str, user: Node | None) -> Value:
        """The new form of an old value in the layout that a user reads."""
        if value.is_constant:
            return self.constant(value, layout) if layout else value
        current = self.copies.get(value, value)
        if current.type.layout == layout:
            return current
        key = (value, layout)
        if key not in self.casts:
            cast = self.graph.add_node(
                "layout_cast",
                [current],
                {"layout": layout},
                names=[f"{value.name}_{layout or 'plain'}"],
                location=user.location if user is not None else "",
            )
            self.casts[key] = cast.output
        return self.casts[key]

    def constant(self, value: Value, layout: str) -> Value:
        key = (value, layout)
        if key not in self.casts:
            shape = (1,) * (4 - value.type.rank) + value.type.static_shape
            self.casts[key] = self.graph.add_constant(value.data.reshape(shape), value.name, layout)
        return self.casts[key]
