"""Numbers read as another type of the same width, by CUDA's own functions.

TVM writes `*(int *)(&(x))`, which is no C++ where x has become a constant: the difference of a number and itself, for
example.

CUDA C++ Math API, "Type Casting Intrinsics".
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Call

from edgeir.schedules import analysis
from edgeir.schedules.tir_types import AnyFunc
from edgeir.targets.target import Target

_FUNCTIONS = {
    ("float32", "int32"): "__float_as_int",
    ("float32", "uint32"): "__float_as_uint",
    ("int32", "float32"): "__int_as_float",
    ("uint32", "float32"): "__uint_as_float",
    ("float64", "int64"): "__double_as_longlong",
    ("int64", "float64"): "__longlong_as_double",
}


def with_bit_casts(func: AnyFunc, target: Target) -> AnyFunc:
    """The function as CUDA compiles it; for other GPUs the same function."""
    return tvm_ffi.structural_map(func, ((Call, _converted),)) if target.kind == "cuda" else func


def _converted(call: Any) -> Any:
    if analysis.call_name(call) != "reinterpret":
        return call
    source, result = (str(value.ty.dtype) for value in (call.args[0], call))
    name = _FUNCTIONS.get((source, result))
    return call if name is None else tirx.call_pure_extern(result, name, call.args[0])
