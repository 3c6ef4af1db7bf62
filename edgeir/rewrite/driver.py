"""The greedy driver: applies rules wherever they fit until none does, in time linear in nodes and rewrites."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, Node
from edgeir.rewrite.pattern import single_use
from edgeir.rewrite.rule import Rewriter, RewriteRule

Permit = Callable[[str, Node], bool]
"""Asked before every rewrite with the rule's name and the root; False ends the rewriting."""

_MANY_USES = 64


@dataclass
class RewriteResult:
    """What a driver run did.

    Attributes:
        applied: rule name → number of rewrites.
        refused: (rule name, reason) → how often a match was turned down.
        stopped: whether the permit ended it before a fixed point.
    """

    applied: Counter[str] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    stopped: bool = False

    @property
    def count(self) -> int:
        """Rewrites in all."""
        return self.applied.total()


def apply_rules(
    graph: Graph, rules: Sequence[RewriteRule], permit: Permit | None = None, limit: int | None = None
) -> RewriteResult:
    """Applies rules until none fits; nodes left without use on the way are erased.

    Args:
        graph: edited in place.
        rules: tried in this order at each node.
        permit: asked before each rewrite; see `Permit`.
        limit: rewrites after which the rules are taken to undo each other; 1,000 + 20 per node if None.

    Raises:
        EdgeIRError: the limit was reached; the message names the rules that went on firing.
    """
    return _Driver(graph, rules, permit, 1000 + 20 * len(graph) if limit is None else limit).run()


class _Driver:
    def __init__(self, graph: Graph, rules: Sequence[RewriteRule], permit: Permit | None, limit: int) -> None:
        self.graph = graph
        self.permit = permit
        self.limit = limit
        self.result = RewriteResult()
        self.recent: deque[str] = deque(maxlen=100)
        self.rules: dict[str, list[RewriteRule]] = {}
        for rule in rules:
            for name in rule.pattern.ops:
                self.rules.setdefault(name, []).append(rule)
        # A change `depth` operators below a root can make the root match.
        self.reach = max((rule.pattern.depth for rule in rules), default=1) - 1
        self.queue: deque[Node] = deque(graph.nodes)
        self.queued: set[Node] = set(self.queue)

    def run(self) -> RewriteResult:
        stop_listening = self.graph.listen(self.on_edit)
        try:
            while self.queue and not self.result.stopped:
                node = self.queue.popleft()
                self.queued.discard(node)
                if node.is_alive:
                    self.visit(node)
        finally:
            stop_listening()
        self.graph.remove_unused_constants()
        return self.result

    def visit(self, node: Node) -> None:
        if not any(value.is_used for value in node.outputs):
            self.graph.erase(node)
            return
        for rule in self.rules.get(node.op, ()):
            match = rule.pattern.match(node)
            if match is None:
                continue
            reason = rule.check(match)
            if reason is not None:
                self.result.refused[rule.name, reason] += 1
                continue
            if self.permit is not None and not self.permit(rule.name, node):
                self.result.stopped = True
                return
            self.apply(rule, node, lambda rule=rule, match=match: rule.rewrite(match, Rewriter(self.graph, node)))
            if node.is_alive:
                self.push(node)
            return

    def apply(self, rule: RewriteRule, node: Node, rewrite: Callable[[], None]) -> None:
        self.result.applied[rule.name] += 1
        self.recent.append(rule.name)
        if self.result.count > self.limit:
            names = ", ".join(sorted(set(self.recent)))
            raise EdgeIRError(
                f"rewriting does not come to an end after {self.limit} rewrites",
                where=f"{node} (graph {self.graph.name})",
                got=f"rules that went on firing: {names}",
                hint="rules that undo each other must not be in one set",
            )
        try:
            rewrite()
        except EdgeIRError as error:
            raise EdgeIRError(
                f"rule {rule.name}: {error.what}",
                where=error.where or str(node),
                expected=error.expected,
                got=error.got,
                hint=error.hint,
            ) from error

    def push(self, node: Node) -> None:
        if node.is_alive and node not in self.queued:
            self.queued.add(node)
            self.queue.append(node)

    def push_users(self, node: Node, levels: int) -> None:
        for value in node.outputs:
            # Beyond this many users the walk would make wide graphs quadratic; each is still visited on its own edits.
            if value.use_count <= _MANY_USES:
                for user in value.users:
                    self.push(user)
                    if levels > 1:
                        self.push_users(user, levels - 1)

    def on_edit(self, event: str, node: Node) -> None:
        if event != "erase":
            self.push(node)
            if self.reach:
                self.push_users(node, self.reach)
            return
        for value in node.present_inputs:
            producer = value.producer
            if producer is None:
                continue
            if not value.is_used:
                self.push(producer)
            elif single_use(value):
                # What asks for a single use may fit now.
                for user in value.users:
                    self.push(user)
                    if self.reach > 1:
                        self.push_users(user, self.reach - 1)
