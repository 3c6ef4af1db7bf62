"""Running sums and products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tvm.script.ir_builder import tirx as T

from edgeir.lowering import te
from edgeir.lowering.compute.expressions import constant
from edgeir.lowering.compute.loops import around, loop_nest
from edgeir.lowering.compute.registry import Call, compute


@compute("cum_sum", "cum_prod")
def cumulative(call: Call) -> te.Tensor:
    """The sum or product of the elements before (and with) each one along the axis, or of those after it."""
    shape, axis, dtype = call.output_shape, int(call.attributes["axis"]), call.dtype
    start = constant(0 if call.op == "cum_sum" else 1, dtype)
    if not math.prod(shape):
        return te.compute(shape, lambda *_: start, name=call.op)
    exclusive, reverse = bool(call.attributes["exclusive"]), bool(call.attributes["reverse"])
    outer, size, inner = around(shape, axis)

    def combine(a: Any, b: Any) -> Any:
        return a + b if call.op == "cum_sum" else a * b

    def body(ins: Sequence[Any], outs: Sequence[Any]) -> None:
        x, y = ins[0], outs[0]

        def at(o: Any, k: Any, i: Any) -> Any:
            return (o * size + (size - 1 - k if reverse else k)) * inner + i

        with T.parallel(0, outer) as o:
            with T.serial(0, inner) as i:
                y[at(o, 0, i)] = start if exclusive else x[at(o, 0, i)]
            with T.serial(0, size - 1) as k, T.serial(0, inner) as i:
                y[at(o, k + 1, i)] = combine(y[at(o, k, i)], x[at(o, k if exclusive else k + 1, i)])

    return loop_nest(call.op, [call.tensor(0)], [shape], [dtype], body)[0]
