"""Element types: their ONNX codes, and which of them an ONNX operator takes."""

from __future__ import annotations

import functools

import onnx
from onnx import helper

from edgeir.errors import EdgeIRError
from edgeir.ir.dtype import dtype_name, numpy_dtype

OPSET = 21
"""The operator set of exported models: int4 and float8 are in it, and tool chains of 2024 and later read it."""

_WIDER = {
    "bool": ("uint8", "int32", "int64", "float32"),
    "bfloat16": ("float32",),
    "float16": ("float32",),
    "float8_e4m3fn": ("float32",),
    "float8_e4m3fnuz": ("float32",),
    "float8_e5m2": ("float32",),
    "float8_e5m2fnuz": ("float32",),
    "int4": ("int8", "int32"),
    "uint4": ("uint8", "int32"),
    "int8": ("int32", "int64", "float32", "float64"),
    "uint8": ("int32", "int64", "float32", "float64"),
    "int16": ("int32", "int64", "float32", "float64"),
    "uint16": ("int32", "int64", "float32", "float64"),
    "int32": ("int64", "float64"),
    "uint32": ("int64", "float64"),
    "int64": ("float64",),
    "uint64": ("float64",),
    "float32": ("float64",),
    "float64": (),
}
"""Element types that hold every value of a type (64-bit integers: up to 2**53), narrowest first."""


def element_code(dtype: str) -> int:
    """ONNX's number of an IR element type."""
    return int(helper.np_dtype_to_tensor_dtype(numpy_dtype(dtype)))


@functools.cache
def allowed_types(op_type: str, position: int = 0) -> frozenset[str]:
    """IR element types that an operand of an ONNX operator may have, by the operator's schema in `OPSET`.

    Args:
        op_type: name in the standard domain.
        position: which operand.
    """
    schema = onnx.defs.get_schema(op_type, OPSET, "")
    symbol = schema.inputs[position].type_str
    for constraint in schema.type_constraints:
        if constraint.type_param_str == symbol:
            return frozenset(filter(None, map(_ir_name, constraint.allowed_type_strs)))
    return frozenset(filter(None, [_ir_name(symbol)]))


def _ir_name(type_text: str) -> str | None:
    inner = type_text.removeprefix("tensor(").removesuffix(")")
    spelled = {"float": "float32", "double": "float64"}.get(inner, inner.replace("float8e", "float8_e"))
    try:
        return dtype_name(numpy_dtype(spelled))
    except EdgeIRError:
        return None


def carrier(op_type: str, dtype: str, position: int = 0) -> str:
    """The element type in which an ONNX operator can compute on a type: the type itself, or the narrowest wider one.

    Raises:
        EdgeIRError: the operator takes no type that holds its values.
    """
    allowed = allowed_types(op_type, position)
    for candidate in (dtype, *_WIDER[dtype]):
        if candidate in allowed:
            return candidate
    raise EdgeIRError(
        f"ONNX {op_type} takes no {dtype}",
        where=f"operator set {OPSET}",
        expected=", ".join(sorted(allowed)),
        got=dtype,
    )
