"""Names for TVM objects in annotations.

TVM gives its objects their attributes at run time, from its C++ reflection, and declares the results of `Schedule.get`
as a union of everything: a type checker would refuse every use. These names say what is meant.
"""

from __future__ import annotations

from typing import Any, TypeAlias

AnySchedule: TypeAlias = Any
"""A `tvm.s_tir.Schedule`."""

AnyBlock: TypeAlias = Any
"""A `tvm.s_tir.stmt.SBlock`."""

AnyBuffer: TypeAlias = Any
"""A `tvm.tirx.Buffer`."""

AnyFunc: TypeAlias = Any
"""A `tvm.tirx.PrimFunc`."""

AnyTensor: TypeAlias = Any
"""A `tvm.te.Tensor`."""

Expression: TypeAlias = Any
"""A `tvm.ir.Expr`, or a number that TVM makes one of."""
