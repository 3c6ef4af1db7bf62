"""Loop nests written out: what one formula per element cannot say (scatter, running sums, sorting)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from edgeir.lowering import te

Body = Callable[[Sequence[Any], Sequence[Any]], None]
"""Writes statements; given the inputs and outputs as flat buffers, indexed in row-major order."""


def loop_nest(
    name: str, inputs: Sequence[te.Tensor], shapes: Sequence[Sequence[int]], dtypes: Sequence[str], body: Body
) -> list[te.Tensor]:
    """Tensors that a loop nest writes.

    Args:
        name: name of the stage.
        inputs: tensors that it reads.
        shapes: shapes of the results.
        dtypes: their element types.
        body: writes the statements with TVM's IR builder.
    """

    def generate(ins: Sequence[Any], outs: Sequence[Any]) -> Any:
        with IRBuilder() as builder:
            with T.seq_scope():
                body([T.buffer_proxy(b) for b in ins], [T.buffer_proxy(b) for b in outs])
            return builder.get()

    declare: Callable[..., Any] = tirx.decl_buffer  # its annotations refuse the layout None
    buffers_in = [declare(t.shape, t.dtype, f"{name}_in{i}", layout=None) for i, t in enumerate(inputs)]
    buffers_out = [
        declare(list(shape), dtype, f"{name}_out{i}", layout=None)
        for i, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True))
    ]
    results = te.extern(
        [tuple(shape) for shape in shapes],
        list(inputs),
        generate,
        name=name,
        dtype=list(dtypes),
        in_buffers=buffers_in,
        out_buffers=buffers_out,
    )
    return list(results) if isinstance(results, list | tuple) else [results]


def around(shape: Sequence[int], axis: int) -> tuple[int, int, int]:
    """Elements before, along and after an axis: (outer, size, inner) of the row-major array."""
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
