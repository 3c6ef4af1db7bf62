"""What pruning must equal: the whole network with zeros in the consumers' weights for the channels that are gone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeir.ir import Graph, Node
from edgeir.ir.evaluate import evaluate
from edgeir.passes.pruning.prune_channels import PruneChannels
from edgeir.passes.pruning.report import REPORT, ChannelReport, totals
from edgeir.passmanager import PassContext
from tests.strategies import assert_outputs_close, random_inputs

Removed = Mapping[str, Mapping[int, tuple[int, ...]]]


def masked(graph: Graph, removed: Removed) -> Graph:
    """A copy in which every sum over channels leaves out the removed ones.

    A sum takes the products with the weights of a channel; zero weights and a zero in place of the channel are one.
    """
    result = graph.copy()
    for node in list(result.nodes):
        for position, axis in _summed_axes(node):
            value = node.input(position)
            indices = removed.get(value.name, {}).get(axis)
            if not indices:
                continue
            count = value.type.shape[axis]
            assert isinstance(count, int)
            shape = [count if i == axis else 1 for i in range(value.type.rank)]
            mask = np.ones(count, np.float32)
            mask[list(indices)] = 0
            constant = result.add_constant(mask.reshape(shape))
            result.set_input(node, position, result.add_node("mul", [value, constant], before=node).output)
    return result


def _summed_axes(node: Node) -> list[tuple[int, int]]:
    """Operands and axes over which products are summed."""
    if node.op in ("conv", "conv_transpose"):
        return [(0, 1)]
    if node.op == "matmul":
        rank = node.input(0).type.rank
        return [(0, rank - (2 if node.attributes["transpose_a"] else 1))]
    if node.op == "einsum":
        left, result = node.attributes["equation"].replace(" ", "").split("->")
        first = left.split(",")[0]
        return [(0, axis) for axis, label in enumerate(first) if label not in result]
    return []


def macs(graph: Graph) -> int:
    """Multiply-accumulates for a batch of one."""
    found = totals(graph).macs
    assert found is not None
    return found


def prune(graph: Graph, **options: object) -> tuple[Graph, ChannelReport]:
    """A pruned copy, verified, with the report; `context` may be among the options."""
    context = options.pop("context", None) or PassContext()
    assert isinstance(context, PassContext)
    reports: list[ChannelReport] = []
    context.services = {**context.services, REPORT: reports.append}
    pruned = graph.copy()
    PruneChannels(**options).run(pruned, context)  # pyright: ignore[reportArgumentType]
    pruned.verify()
    assert [(v.name, v.type) for v in pruned.inputs] == [(v.name, v.type) for v in graph.inputs]
    assert [v.type for v in pruned.outputs] == [v.type for v in graph.outputs]
    assert pruned.output_names == graph.output_names
    return pruned, reports[0]


def assert_equals_masked(
    graph: Graph, pruned: Graph, report: ChannelReport, inputs: Mapping[str, np.ndarray] | None = None
) -> None:
    """The pruned graph computes what the masked one does, to 1e-5 of an output's range."""
    samples = dict(inputs) if inputs is not None else random_inputs(graph)
    expected = evaluate(masked(graph, report.removed), samples)
    assert_outputs_close(evaluate(pruned, samples), expected, rtol=1e-4, atol=1e-5)
