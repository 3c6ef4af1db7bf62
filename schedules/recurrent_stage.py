"""A recurrent layer as one TE stage with several results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from edgeir.schedules.recurrent_loops import Tile, emit
from edgeir.schedules.recurrent_problem import Recurrence
from edgeir.schedules.tir_types import AnyBuffer, AnyTensor


def recurrent_stage(
    problem: Recurrence, tile: Tile, inputs: Sequence[AnyTensor], packed: bool = False, parallel: bool = False
) -> list[AnyTensor]:
    """Y (T, D, B, H) and the last states (D, B, H), computed in one loop nest.

    Args:
        problem: the layer.
        tile: how its loops are cut.
        inputs: its operands, in the order of `problem.operands`.
        packed: whether `r` lies in the panels that the tile asks for.
        parallel: whether directions and parts of the sequences run at the same time.
    """
    dtype = str(inputs[0].dtype)
    last = (problem.directions, problem.batch, problem.hidden)
    shapes = [(problem.steps, *last), *[last] * problem.states]

    def generate(ins: Sequence[AnyBuffer], outs: Sequence[AnyBuffer]) -> Any:
        with IRBuilder() as builder:
            with T.seq_scope():
                emit(problem, tile, dict(zip(problem.operands, ins, strict=True)), outs, dtype, packed, parallel)
            body: Any = builder.get()
        while isinstance(body, tirx.AttrStmt) and str(body.attr_key) == "pragma_scope":
            body = body.body  # the code generator does not know it
        return body

    declare: Callable[..., Any] = tirx.decl_buffer  # its annotations refuse the layout None
    named = zip(inputs, problem.operands, strict=True)
    results = te.extern(
        shapes,
        list(inputs),
        generate,
        name=problem.cell,
        dtype=[dtype] * len(shapes),
        in_buffers=[declare(tensor.shape, tensor.dtype, name, layout=None) for tensor, name in named],
        out_buffers=[declare(shape, dtype, f"y{i}", layout=None) for i, shape in enumerate(shapes)],
    )
    return list(results) if isinstance(results, list | tuple) else [results]
