from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import edgeir.ops  # noqa: F401
from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Graph, Node
from edgeir.rewrite import Match, Rewriter, RewriteRule, anything, apply_rules, op


class NegPair(RewriteRule):
    name = "neg-pair"
    pattern = op("neg", op("neg", anything("x")))

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        rewriter.replace(match["x"])


class Swap(RewriteRule):
    """exp ↔ tanh: with its mirror it never ends."""

    def __init__(self, old: str, new: str) -> None:
        self.new = new
        self.name = f"{old}-to-{new}"  # type: ignore[misc]
        self.pattern = op(old, anything("x"))  # type: ignore[misc]

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        rewriter.replace(rewriter.add(self.new, match["x"]))


class Refusing(NegPair):
    def check(self, match: Match) -> str | None:
        return "not today"


def chain(ops: Sequence[str]) -> Graph:
    b = Builder()
    value = b.input("x", "float32[2]")
    for name in ops:
        value = b.node(name, value, name=f"{name}_value").output
    return b.outputs(y=value)


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def test_rewrites_enable_each_other() -> None:
    graph = chain(["neg"] * 4 + ["exp"] + ["neg"] * 3)
    result = apply_rules(graph, [NegPair()])
    assert ops(graph) == ["exp", "neg"]
    assert (result.count, result.applied["neg-pair"], result.stopped) == (3, 3, False)
    graph.verify()


def test_nodes_left_without_use_and_their_constants_go() -> None:
    b = Builder()
    x = b.input("x", "float32[2]")
    b.add(b.exp(x), np.ones(2, np.float32))
    graph = b.outputs(y=x)
    apply_rules(graph, [NegPair()])
    assert ops(graph) == [] and not graph.constants


def test_a_use_that_goes_enables_single_use_patterns() -> None:
    class Inline(RewriteRule):
        name = "inline"
        pattern = op("relu", op("exp", anything("x"), single_use=True))

        def rewrite(self, match: Match, rewriter: Rewriter) -> None:
            rewriter.replace(rewriter.add("tanh", match["x"]))

    b = Builder()
    e = b.exp(b.input("x", "float32[2]"))
    kept = b.relu(e)
    b.neg(e)
    graph = b.outputs(y=kept)
    assert apply_rules(graph, [Inline()]).count == 1


def test_reasons_are_counted_and_nothing_changes() -> None:
    graph = chain(["neg", "neg"])
    version = graph.version
    result = apply_rules(graph, [Refusing()])
    assert result.refused == {("neg-pair", "not today"): 1}
    assert graph.version == version


def test_rules_that_undo_each_other_are_named() -> None:
    graph = chain(["exp"])
    with pytest.raises(EdgeIRError, match="exp-to-tanh, tanh-to-exp"):
        apply_rules(graph, [Swap("exp", "tanh"), Swap("tanh", "exp")], limit=50)
    graph.verify()


def test_the_permit_stops_after_n_rewrites() -> None:
    graph = chain(["exp"] * 5)
    asked: list[str] = []

    def permit(name: str, node: Node) -> bool:
        asked.append(name)
        return len(asked) <= 2

    result = apply_rules(graph, [Swap("exp", "tanh")], permit)
    assert sorted(ops(graph)) == ["exp"] * 3 + ["tanh"] * 2
    assert result.stopped and result.count == 2
    graph.verify()


def test_new_nodes_keep_name_and_place() -> None:
    b = Builder(location="layer1")
    graph = b.outputs(y=b.node("exp", b.input("x", "float32[2]"), name="hidden").output)
    apply_rules(graph, [Swap("exp", "tanh")])
    (node,) = graph.nodes
    assert (node.output.name, node.location) == ("hidden", "layer1")


def test_a_failing_rewrite_names_its_rule() -> None:
    class Wrong(NegPair):
        name = "wrong"

        def rewrite(self, match: Match, rewriter: Rewriter) -> None:
            rewriter.replace(rewriter.add("reshape", match["x"], shape=(1, 2)))

    with pytest.raises(EdgeIRError, match="rule wrong"):
        apply_rules(chain(["neg", "neg"]), [Wrong()])


def test_the_listener_is_removed() -> None:
    graph = chain(["neg", "neg", "exp"])
    apply_rules(graph, [NegPair()])
    assert not graph._listeners


@pytest.mark.parametrize("size", [50, 200])
def test_visits_grow_linearly(size: int) -> None:
    graph = chain(["neg"] * size)
    visits = 0

    class Counting(NegPair):
        def check(self, match: Match) -> str | None:
            nonlocal visits
            visits += 1
            return None

    apply_rules(graph, [Counting()])
    assert ops(graph) == [] and visits <= size
