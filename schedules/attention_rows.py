"""Softmax of one row in place, all but the division."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from edgeir.schedules.sparse_arguments import store_vector, vector_at, whole
from edgeir.schedules.tir_types import AnyBuffer, Expression

_CHAINS = 4
"""Partial results of a row: they hide the latency of maximum and addition."""

_LOWEST = -3.4028234663852886e38
_LOG2_E = 1.4426950408889634
# 2^r on |r| <= 1/2 without its constant 1, highest power first: minimax, largest relative error 9.2e-8.
_POWER = (1.326472731307149e-3, 9.671512991189957e-3, 5.550733581185341e-2, 2.4022242426872253e-1, 6.931470036506653e-1)


def _number(value: float, lanes: int) -> Expression:
    return tirx.Broadcast(tirx.FloatImm("float32", value), whole(lanes))


def exp_nonpositive(x: Expression, lanes: int) -> Expression:
    """exp of a vector of numbers that are at most 0; -inf gives 0, NaN stays.

    Computed as 2^(x·log2 e): the rounding of that product is an error of |x|·2^-24, which exp(x) makes less than an
    ulp of 1. Softmax has a 1 in every row, so no weight is further off than that.
    """
    scaled = T.bind(x * _number(_LOG2_E, lanes))
    # NaN stays NaN, because a comparison with it is false. At -126 the power's bits are 0, and so is the result.
    t = T.bind(tirx.Select(scaled < _number(-126.0, lanes), _number(-126.0, lanes), scaled))
    n = T.bind(tirx.nearbyint(t))
    r = T.bind(t - n)
    result: Expression = _number(2 * _POWER[0], lanes)
    for coefficient in (*_POWER[1:], 1.0):
        result = result * r + _number(2 * coefficient, lanes)
    bits = (n.astype(f"int32x{lanes}") + tirx.Broadcast(whole(126), whole(lanes))) << tirx.Broadcast(
        whole(23), whole(lanes)
    )
    return result * tirx.reinterpret(f"float32x{lanes}", bits)


def _joined(vector: Expression, lanes: int, join: Callable[[Expression, Expression], Expression]) -> Expression:
    """One number of all lanes, halving the vector."""
    while lanes > 1:
        vector, lanes = T.bind(vector), lanes // 2
        halves = [
            tirx.Shuffle([vector], [tirx.IntImm("int32", i) for i in range(first, first + lanes)])
            for first in (0, lanes)
        ]
        vector = join(halves[0], halves[1])
    # In memory, because TVM puts a bound expression in place of each of its uses, which grow with every halving.
    kept = T.alloc_buffer((1,), "float32", layout=None)
    T.buffer_store(kept, vector, [0])
    return tirx.BufferLoad(kept, [whole(0)])


def _reduce(
    count: int,
    lanes: int,
    initial: float,
    element: Callable[[Any], Expression],
    join: Callable[[Expression, Expression], Expression],
) -> Expression:
    """All `count` vectors joined to one vector."""
    chains = min(_CHAINS, count)
    partial = [T.alloc_buffer((lanes,), "float32", layout=None) for _ in range(chains)]
    for buffer in partial:
        store_vector(buffer, 0, _number(initial, lanes), lanes)

    def step(indices: Sequence[Any]) -> None:
        for buffer, index in zip(partial, indices, strict=False):
            store_vector(buffer, 0, join(vector_at(buffer, 0, lanes), element(index)), lanes)

    if count // chains > 1:
        with T.serial(0, count // chains) as turn:
            step([turn * chains + i for i in range(chains)])
    else:
        step(range(chains))
    step(range(count // chains * chains, count))
    values = [vector_at(buffer, 0, lanes) for buffer in partial]
    while len(values) > 1:
        values = [join(*values[i : i + 2]) if i + 1 < len(values) else values[i] for i in range(0, len(values), 2)]
    return values[0]


def _greater(a: Expression, b: Expression) -> Expression:
    return tirx.Max(a, b)


def normalise_row(
    scores: AnyBuffer, start: Expression, length: int, lanes: int, inverse: AnyBuffer, row: Expression, guard: bool
) -> None:
    """Replaces a row's scores by exp(score − max), and stores one over their sum.

    A row of NaN, or of nothing but -inf, becomes NaN as in the definition.

    Args:
        scores: where the row lies.
        start: its first element.
        length: whole vectors.
        lanes: elements of a vector.
        inverse: where one over the sum goes, at `row`.
        row: number of the row.
        guard: whether a row of NaN becomes zeros.
    """
    count = length // lanes
    at = T.bind(start)

    def score(index: Any) -> Expression:
        return vector_at(scores, at + index * lanes, lanes)

    # The definition's reduction starts from the lowest number, too: -inf - lowest = -inf, whose exponential is 0.
    greatest = _joined(_reduce(count, lanes, _LOWEST, score, _greater), lanes, _greater)
    shift = tirx.Broadcast(greatest, whole(lanes))

    def weight(index: Any) -> Expression:
        value = T.bind(exp_nonpositive(score(index) - shift, lanes))
        store_vector(scores, at + index * lanes, value, lanes)
        return value

    total = _joined(_reduce(count, lanes, 0.0, weight, lambda a, b: a + b), lanes, lambda a, b: a + b)
    one = tirx.FloatImm("float32", 1.0)
    if not guard:
        T.buffer_store(inverse, one / total, [row])
        return
    with T.If(total > tirx.FloatImm("float32", 0.0)):
        with T.Then():
            T.buffer_store(inverse, one / total, [row])
        with T.Else():
            T.buffer_store(inverse, one, [row])
            with T.serial(0, count) as index:
                store_vector(scores, at + index * lanes, _number(0.0, lanes), lanes)
