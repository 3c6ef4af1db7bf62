"""The part of `tvm.te` that lowering uses, with annotations that hold.

TVM declares that `compute` returns a tensor or a tuple, and gives tensors their attributes at run time: a type checker
would refuse every use of a stage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from tvm import te as _te

Tensor: TypeAlias = Any
"""A `tvm.te.Tensor`."""

Axis: TypeAlias = Any
"""A `tvm.tirx.IterVar`, which stands for its variable in expressions."""

Reducer: TypeAlias = Callable[..., Any]
"""What `comm_reducer` returns: expressions and axes → a reduction."""

PrimFunc: TypeAlias = Any
"""A `tvm.tirx.PrimFunc`."""

placeholder: Callable[..., Tensor] = _te.placeholder
compute: Callable[..., Tensor] = _te.compute
extern: Callable[..., Any] = _te.extern
reduce_axis: Callable[..., Axis] = _te.reduce_axis
comm_reducer: Callable[..., Reducer] = _te.comm_reducer
sum: Callable[..., Any] = _te.sum
max: Callable[..., Any] = _te.max
min: Callable[..., Any] = _te.min
create_prim_func: Callable[..., PrimFunc] = _te.create_prim_func
