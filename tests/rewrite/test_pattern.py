from __future__ import annotations

import numpy as np

import edgeir.ops  # noqa: F401
from edgeir.ir import Builder
from edgeir.rewrite import anything, constant, op, single_use


def test_operands_attributes_and_names() -> None:
    b = Builder()
    x = b.input("x", "float32[2, 3]")
    t = b.transpose(x, perm=(1, 0))
    root = b.node("relu", t)
    match = op("relu", op("transpose", anything("x"), name="t", perm=(1, 0))).match(root)
    assert match is not None
    assert (match["x"], match["t"], match.node("t"), match.root) == (x, t, t.producer, root)
    assert op("relu", op("transpose", perm=(0, 1))).match(root) is None
    assert op("relu", op("transpose", perm=lambda perm: perm[0] == 1)).match(root) is not None
    assert op(("exp", "relu"), where=lambda node: node is not root).match(root) is None


def test_commutative_operators_match_in_either_order() -> None:
    b = Builder()
    x = b.input("x", "float32[2]")
    two = b.constant(np.full(2, 2, np.float32))
    pattern = op(("mul", "sub"), anything("x"), constant("c", where=lambda array: bool((array == 2).all())))
    match = pattern.match(b.node("mul", two, x))
    assert match is not None and match["x"] is x and match.array("c")[0] == 2
    assert pattern.match(b.node("sub", two, x)) is None


def test_swapping_goes_back_when_a_later_operand_fails() -> None:
    b = Builder()
    x, y = b.input("x", "float32[2]"), b.input("y", "float32[2]")
    pattern = op("add", op("mul", anything("a"), op("exp")), op("neg", anything("a")))
    # The first way to match mul binds a to exp(y); only the second agrees with neg(x).
    assert pattern.match(b.node("add", b.neg(x), b.mul(b.exp(y), x))) is not None
    assert pattern.match(b.node("add", b.neg(y), b.mul(b.exp(y), x))) is None


def test_the_same_name_asks_for_the_same_value() -> None:
    b = Builder()
    x, y = b.input("x", "float32[2]"), b.input("y", "float32[2]")
    square = op("mul", anything("x"), anything("x"))
    assert square.match(b.node("mul", x, x)) is not None
    assert square.match(b.node("mul", x, y)) is None


def test_single_use() -> None:
    b = Builder()
    e = b.exp(b.input("x", "float32[2]"))
    pattern = op("relu", op("exp", single_use=True))
    root = b.node("relu", e)
    assert single_use(e) and pattern.match(root) is not None
    b.outputs(y=e)
    assert pattern.match(root) is None
    b.graph.set_outputs([])
    b.neg(e)
    assert e.use_count == 2 and pattern.match(root) is None


def test_depth() -> None:
    assert anything().depth == 0
    assert op("relu", op("add", op("mul"), anything())).depth == 3
