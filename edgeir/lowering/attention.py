"""A fused attention as stages that end and begin at its two products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeir.ir.graph import Node, Value
from edgeir.lowering import te
from edgeir.lowering.compute.apply import apply
from edgeir.lowering.compute.registry import Call, physical
from edgeir.lowering.region import Region
from edgeir.ops.attention import AttentionChain, find_attention
from edgeir.schedules.attention_problem import Attention, AttentionStages

Layout = Callable[[], tuple[list[te.Tensor], list[te.Tensor]]]
"""Lays out the whole computation: placeholders and outputs."""

MakeCall = Callable[[Node, dict[Value, te.Tensor]], Call]
"""A node applied to tensors."""


def attention(region: Region, layout: Layout, make_call: MakeCall) -> Attention | None:
    """The attention that the nodes of a kernel compute, or None where they compute anything else.

    Args:
        region: the nodes; its inputs are in the order of the placeholders.
        layout: lays out the computation by definition.
        make_call: applies a node.
    """
    if region.anchor is None or region.anchor.op != "softmax":
        return None
    chain = find_attention(region.anchor)
    if chain is None or not set(chain.nodes) <= set(region.nodes) or len(region.outputs) != 1:
        return None
    if any(value.type.layout for value in region.inputs):
        return None
    result = region.outputs[0]
    order = tuple(range(result.type.rank))
    if result is not chain.product.output:
        reader = result.producer
        if reader is None or reader.op != "transpose" or reader.input(0) is not chain.product.output:
            return None
        order = tuple(reader.attributes["perm"])
    if order[-1] != len(order) - 1:
        return None
    left = physical(chain.scores.input(0).type)
    *batch, queries, keys = physical(chain.scores.output.type)
    depth = left[-2] if chain.scores.attributes["transpose_a"] else left[-1]
    columns = physical(chain.product.output.type)[-1]
    return Attention(
        tuple(batch), queries, keys, depth, columns, bool(chain.guard), order,
        lambda: _stages(chain, region, layout, make_call),
    )  # fmt: skip


def _stages(chain: AttentionChain, region: Region, layout: Layout, make_call: MakeCall) -> AttentionStages:
    placeholders, outputs = layout()
    tensors: dict[Value, te.Tensor] = dict(zip(region.inputs, placeholders, strict=True))
    scores = te.placeholder(physical(chain.scores.output.type), "float32", name="scores")
    for node in region.nodes:
        if node is chain.scores:
            tensors[node.output] = scores
        elif (node not in chain.nodes or node in chain.logits) and all(
            value in tensors or value.is_constant for value in node.present_inputs
        ):
            tensors.update(zip(node.outputs, apply(make_call(node, tensors)), strict=True))
    batch = tuple(int(extent) for extent in scores.shape[:-2])

    def matrices(node: Node, position: int, flag: bool, name: str) -> te.Tensor:
        tensor = tensors[node.input(position)]
        shape = [int(extent) for extent in tensor.shape]
        rows, columns = shape[-2:][::-1] if flag else shape[-2:]

        def element(*index: Any) -> Any:
            own = index[len(batch) - len(shape) + 2 : len(batch)]
            at = [0 if extent == 1 else i for extent, i in zip(shape[:-2], own, strict=True)]
            return tensor(*at, *(index[-2:][::-1] if flag else index[-2:]))

        return te.compute((*batch, rows, columns), element, name=name)

    attributes = chain.scores.attributes
    return AttentionStages(
        placeholders,
        outputs,
        matrices(chain.scores, 0, bool(attributes["transpose_a"]), "query"),
        # Keys are rows here: what the product reads is their transpose.
        matrices(chain.scores, 1, not attributes["transpose_b"], "key"),
        matrices(chain.product, 1, bool(chain.product.attributes["transpose_b"]), "value"),
        scores,
        tensors[chain.softmax.input(0)],
    )
