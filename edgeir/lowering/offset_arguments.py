"""Kernels whose arguments may begin inside a tensor."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import tvm_ffi
from tvm import tirx
from tvm.ir import Call

from edgeir.lowering.in_place import ALIGNMENT
from edgeir.schedules.analysis import nodes
from edgeir.schedules.tir_types import AnyFunc


def with_offset_arguments(func: AnyFunc, indices: Collection[int]) -> AnyFunc:
    """The function with the `byte_offset` of some arguments honoured; kernels refuse one that is not 0.

    Args:
        func: a scheduled function.
        indices: of its arguments. Their offsets must be multiples of `ALIGNMENT`, which the function checks.

    Raises:
        NotImplementedError: the function takes the address of such an argument, which would not hold the offset.
    """
    params: list[Any] = list(func.params)
    moved: dict[Any, Any] = {}
    for index in indices:
        old = params[index]
        offset: Any = tirx.Var(f"{old.name}_offset", "int32")
        factor = max(1, ALIGNMENT // np.dtype(str(old.dtype)).itemsize)
        layout: Any = None
        moved[old] = tirx.decl_buffer(
            old.shape, old.dtype, old.name, elem_offset=offset, offset_factor=factor, layout=layout
        )
    _refuse_addresses(func, moved)
    body = tvm_ffi.structural_map(func.body, ((tirx.Var, lambda variable: moved.get(variable, variable)),))
    return tirx.PrimFunc([moved.get(param, param) for param in params], body, None, func.attrs)


def _refuse_addresses(func: Any, moved: Collection[Any]) -> None:
    for node in nodes(func.body):
        if isinstance(node, Call) and any(isinstance(value, tirx.Var) and value in moved for value in node.args):
            raise NotImplementedError(f"{node} takes an argument's address")
