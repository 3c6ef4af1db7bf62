"""Scaled dot-product attention as a chain of operators, which fusion groups and lowering reads.

    s = matmul(q, kᵀ);  x = s·scale + mask;  p = softmax(x);  y = matmul(p, v)

(Vaswani et al., "Attention is all you need", NeurIPS 2017.) Exporters may write between softmax and product
`where(is_nan(p), 0, p)`, which makes rows without any key zeros.

This is no operator. It lives beside them because fusion, which groups the chain, and lowering, which finds it again in
the body of a kernel, must see the same one, and neither imports the other.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeir.ir.graph import Node, Value

LOGIT_OPERATORS = frozenset({"add", "sub", "mul", "div", "where"})
"""What may stand between the first product and softmax: scaling and masks."""


@dataclass(frozen=True)
class AttentionChain:
    """The operators of one attention.

    Attributes:
        scores: the product of queries and keys.
        logits: scaling and masks, from the scores to softmax.
        softmax: softmax over the keys.
        guard: `is_nan` and `where`, which make rows of NaN zeros, or nothing.
        product: the product of probabilities and values.
    """

    scores: Node
    logits: tuple[Node, ...]
    softmax: Node
    guard: tuple[Node, ...]
    product: Node

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, producers first."""
        return (self.scores, *self.logits, self.softmax, *self.guard, self.product)


def find_attention(softmax: Node) -> AttentionChain | None:
    """The attention around a softmax, or None where it is something else or an inner result is used elsewhere."""
    probabilities = softmax.outputs[0]
    if softmax.op != "softmax" or softmax.attributes["axis"] != probabilities.type.rank - 1:
        return None
    if probabilities.type.dtype != "float32" or probabilities.type.layout:
        return None
    head = _to_scores(softmax.input(0))
    guard = _guard(probabilities)
    last = guard[-1].output if guard else probabilities
    if head is None or (not guard and not _used_once(probabilities)):
        return None
    product = last.users[0] if _used_once(last) else None
    if product is None or product.op != "matmul" or product.input(0) is not last or product.attributes["transpose_a"]:
        return None
    scores, logits = head
    if product.input(1) is last or product.output.type.shape[:-2] != scores.output.type.shape[:-2]:
        return None
    return AttentionChain(scores, logits, softmax, guard, product)


def _used_once(value: Value) -> bool:
    return value.use_count == 1 and not value.is_output


def _to_scores(value: Value) -> tuple[Node, tuple[Node, ...]] | None:
    """The product of matrices that a value is made of by scaling and masks, and these in order."""
    node = value.producer
    if node is None or not _used_once(value):
        return None
    if node.op == "matmul":
        return node, ()
    if node.op not in LOGIT_OPERATORS:
        return None
    for operand in node.present_inputs:
        if operand.type != value.type or node.present_inputs.count(operand) > 1:
            continue
        found = _to_scores(operand)
        if found is not None:
            return found[0], (*found[1], node)
    return None


def _guard(probabilities: Value) -> tuple[Node, ...]:
    """`is_nan` and `where` of where(is_nan(p), 0, p), the only readers of p; else nothing."""
    tests = [user for user in probabilities.users if user.op == "is_nan"]
    if probabilities.use_count != 2 or probabilities.is_output or len(tests) != 1 or not _used_once(tests[0].output):
        return ()
    chosen = tests[0].output.users[0]
    if chosen.op != "where" or chosen.input(0) is not tests[0].output or chosen.input(2) is not probabilities:
        return ()
    zero = chosen.input(1)
    is_zero = zero.is_constant and zero.data.size == 1 and zero.data.item() == 0
    return (tests[0], chosen) if is_zero and chosen.output.type == probabilities.type else ()
