"""Which operators count as one in a quantized graph that other engines read."""

from __future__ import annotations

from edgeir.ir import Node, Pattern
from edgeir.passes.fusion.groups import Group, Grouping

CLAMPS = frozenset({"relu", "clip"})


class PortableGrouping(Grouping):
    """Groups as onnxruntime's quantized operators have them.

    A convolution or product takes along what adds its constant bias and clamps its result; elementwise work that is
    no sum of two activations by itself is gathered, because the engine computes it in float anyway; every operator that
    moves or pools data stands alone.
    """

    def _grow_downwards(self, group: Group) -> None:
        while True:
            value = group.sink.outputs[0] if len(group.sink.outputs) == 1 else None
            if value is None or value.is_output or value.use_count != 1:
                return
            user = value.users[0]
            bias = user.op == "add" and any(operand.is_constant for operand in user.present_inputs)
            if user in self.group_of or not (user.op in CLAMPS or (bias and group.sink is group.anchor)):
                return
            group.members[user] = group.members[group.sink]
            self.group_of[user] = group
            group.sink = user
            if user.op in CLAMPS:
                return

    def _grow_anchor(self, node: Node) -> None:
        self._grow_downwards(self._start(node, node))

    def _grow_reduction(self, node: Node) -> None:
        self._start(node, node)

    def _grow_map(self, node: Node) -> None:
        group = self._start(node, None)
        if self.pattern[node] is Pattern.ELEMENTWISE:
            self._grow_upwards(group, [node], self._is_elementwise)
