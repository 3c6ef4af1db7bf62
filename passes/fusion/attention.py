"""Attention as one kernel: softmax(q·kᵀ·scale + mask)·v, with the transposes around it.

    %s = matmul(%q, %k) {transpose_a = false, transpose_b = true} : float32[1, 4, 64, 64]
    %x = add(%s, %mask) : float32[1, 4, 64, 64]
    %p = softmax(%x) {axis = 3} : float32[1, 4, 64, 64]
    %y = matmul(%p, %v) {transpose_a = false, transpose_b = false} : float32[1, 4, 64, 32]

becomes

    %y = fused(%q, %k, %mask, %v) {body = graph "matmul_add_softmax_matmul" (…) { … }, anchor = "softmax"} : …

The kernel keeps the scores of a block of queries in the cache; transposes, reshapes and scalings of q, k and v, and a
transpose of y, become the way in which it reads and writes.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeir.ir import Graph, Node, Value
from edgeir.ops.attention import AttentionChain, find_attention
from edgeir.rewrite import single_use
from edgeir.targets import Target

MIN_QUERIES = 4
"""Products of fewer are as good as products of vectors, whose columns threads share better."""

KEPT_QUERIES = 16
"""So many rows of scores must stay in the cache at a time for keys and values to be read seldom enough."""

_MOVES = frozenset({"transpose", "reshape", "expand"})
_SCALINGS = frozenset({"mul", "div"})


def attention_groups(graph: Graph, target: Target | None) -> list[tuple[Node, Node, list[Node]]]:
    """The attentions of a graph that are worth one kernel on the target.

    Args:
        graph: the graph.
        target: the machine; nothing is found without one, or on a GPU.

    Returns:
        For each its sink, its softmax, and all its nodes.
    """
    if target is None or target.gpu is not None:
        return []
    found = []
    for node in graph.nodes:
        chain = find_attention(node) if node.op == "softmax" else None
        if chain is not None and _worthwhile(chain, target):
            members = _members(chain)
            found.append((members[-1], chain.softmax, members))
    return found


def _sizes(chain: AttentionChain) -> tuple[int, int, int, int] | None:
    """Queries, keys, depth of a key and of a value; None where a dimension is symbolic or zero."""
    types = [value.type for node in (chain.scores, chain.product) for value in (*node.present_inputs, node.output)]
    if not all(type.is_static and type.dtype == "float32" and not type.layout for type in types):
        return None
    if any(0 in type.static_shape for type in types):
        return None
    left = chain.scores.input(0).type.static_shape
    depth = left[-2] if chain.scores.attributes["transpose_a"] else left[-1]
    queries, keys = chain.scores.output.type.static_shape[-2:]
    return queries, keys, depth, chain.product.output.type.static_shape[-1]


def _worthwhile(chain: AttentionChain, target: Target) -> bool:
    """Whether vectors of keys and of values are full, and the scores of some queries fill half a cache at most."""
    sizes = _sizes(chain)
    if sizes is None:
        return False
    queries, keys, _, columns = sizes
    lanes = target.lanes()
    fits = 4 * KEPT_QUERIES * keys <= max(target.l2_bytes, 8 * target.l1_bytes) // 2
    return lanes >= 4 and queries >= MIN_QUERIES and keys >= lanes and columns >= lanes and fits


def _members(chain: AttentionChain) -> list[Node]:
    """The nodes of the group, the sink last."""
    leading = [
        node for value in (*chain.scores.present_inputs, chain.product.input(1)) for node in _moves_before(value)
    ]
    reader = chain.product.output.users[0] if single_use(chain.product.output) else None
    moved = reader is not None and reader.op == "transpose" and _keeps_columns(reader.attributes["perm"])
    return [*dict.fromkeys(leading), *chain.nodes, *([reader] if reader is not None and moved else [])]


def _keeps_columns(perm: Sequence[int]) -> bool:
    return perm[-1] == len(perm) - 1


def _moves_before(value: Value) -> list[Node]:
    """What only moves or scales the elements of an operand; reshapes that come first stay outside, as views."""
    found: list[Node] = []
    node = value.producer
    while node is not None and node.op != "fused" and single_use(value):
        if node.op in _MOVES or (node.op in _SCALINGS and _is_scalar(node.input(1))):
            source = node.input(0)
        elif node.op == "mul" and _is_scalar(node.input(0)):
            source = node.input(1)
        else:
            break
        if source.type.layout or source.type.dtype != "float32":
            break
        found.append(node)
        value, node = source, source.producer
    while found and found[-1].op == "reshape":
        found.pop()
    return found[::-1]


def _is_scalar(value: Value) -> bool:
    return value.is_constant and value.data.size == 1 and value.type.rank == 0
