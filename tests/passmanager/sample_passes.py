"""Passes for tests, under names that no built-in pass has; importing this module registers them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

import edgeir.ops  # noqa: F401
from edgeir.errors import EdgeIRError
from edgeir.ir import Graph
from edgeir.passmanager import Pass, PassContext, register_pass
from edgeir.rewrite import Match, Rewriter, RewriteRule, anything, op


@register_pass
@dataclass(frozen=True)
class Options(Pass):
    """Every kind of option; does nothing."""

    name: ClassVar[str] = "test-options"
    ratio: float = 0.5
    count: int = 3
    score: Literal["l1", "taylor"] = "l1"
    flag: bool = False
    text: str = ""
    max_bytes: int | None = None
    sizes: tuple[int, ...] = ()
    pair: tuple[str, float] = ("a", 1.0)

    def run(self, graph: Graph, context: PassContext) -> None:
        """Nothing."""


@register_pass
@dataclass(frozen=True)
class Required(Pass):
    """Needs an option, calibration data and a service."""

    name: ClassVar[str] = "test-required"
    amount: int

    def run(self, graph: Graph, context: PassContext) -> None:
        """Asks for what it needs."""
        context.require_calibration(self.name)
        context.require_service("measured-latency", self.name)


class WrongExp(RewriteRule):
    """exp → tanh only where the node is called `bad`; elsewhere exp → reciprocal(exp(neg))."""

    name = "wrong-exp"
    pattern = op("exp", anything("x"), where=lambda node: not node.location.startswith("done"))

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """One of its applications is wrong."""
        x = match["x"]
        if match.root.location == "bad":
            rewriter.replace(rewriter.add("tanh", x))
        else:
            inner = rewriter.add("exp", rewriter.add("neg", x), location="done")
            rewriter.replace(rewriter.add("reciprocal", inner))


@register_pass
@dataclass(frozen=True)
class Breaking(Pass):
    """Changes what the graph computes at one place."""

    name: ClassVar[str] = "test-breaking"

    def run(self, graph: Graph, context: PassContext) -> None:
        """Applies the rule."""
        context.apply(graph, (WrongExp(),))


@register_pass
@dataclass(frozen=True)
class Failing(Pass):
    """Fails on graphs with a `neg`."""

    name: ClassVar[str] = "test-failing"

    def run(self, graph: Graph, context: PassContext) -> None:
        """Raises."""
        for node in graph.nodes:
            if node.op == "neg":
                raise EdgeIRError("cannot stand neg", where=str(node))


@register_pass
@dataclass(frozen=True)
class Corrupting(Pass):
    """Leaves an invalid graph."""

    name: ClassVar[str] = "test-corrupting"

    def run(self, graph: Graph, context: PassContext) -> None:
        """Changes a type behind the graph's back."""
        node = next(graph.nodes)
        node.output.type = type(node.output.type)("float64", node.output.type.shape)
        graph.add_constant(np.zeros(1, np.float32))
