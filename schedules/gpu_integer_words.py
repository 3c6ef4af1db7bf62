"""Four bytes in one 32-bit word, and CUDA's inner product of two such words.

While a kernel is scheduled a word is a call that holds its four bytes, and an inner product begins at 0.
`with_instructions` then makes one load of four bytes that are neighbours in memory, and lets the inner product add to
the sum.

    sum + __dp4a(a, b, 0)                  →  __dp4a(a, b, sum)
    word(p[4i], p[4i+1], p[4i+2], p[4i+3]) →  *(int*)(p + 4i)

CUDA C++ Programming Guide, "Integer Intrinsics": `__dp4a` multiplies signed by signed or unsigned by unsigned bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Call
from tvm.ir.expr import StringImm, TensorLoad
from tvm.sym import Analyzer

from edgeir.schedules import analysis
from edgeir.schedules.tir_types import AnyFunc, Expression
from edgeir.targets.target import Target

BYTES = 4
"""Bytes of a word."""

_WORD, _DOT = "edgeir_word", "__dp4a"
_LEAST_ARCHITECTURE = 61
_SIGNS = -0x7F7F7F80  # 0x80 in every byte


def has_dot_product(target: Target) -> bool:
    """Whether the target's GPU multiplies four pairs of bytes in one instruction."""
    if target.kind != "cuda" or target.gpu is None:
        return False
    return int(re.sub(r"\D", "", target.gpu.arch) or 0) >= _LEAST_ARCHITECTURE


def word(elements: Sequence[Expression]) -> Expression:
    """Four 8-bit numbers as one int32, the first in its lowest byte."""
    return tirx.call_pure_extern("int32", _WORD, *elements)


def repeated(number: int) -> Expression:
    """An 8-bit number in every byte of an int32."""
    unsigned = (number & 0xFF) * 0x01010101
    return tirx.const(unsigned - (1 << 32) if unsigned >= 1 << 31 else unsigned, "int32")


def as_signed(value: Expression) -> Expression:
    """A word of unsigned bytes as signed ones that are 128 less."""
    return value ^ tirx.const(_SIGNS, "int32")


def dot(left: Expression, right: Expression, left_dtype: str, right_dtype: str) -> Expression:
    """Σ left[q] · right[q] as int32.

    Args:
        left, right: words. Of words with different signs the unsigned one must have been made signed by `as_signed`.
        left_dtype, right_dtype: `int8` or `uint8`, before `as_signed`.
    """
    zero = tirx.const(0, "int32")
    if left_dtype == right_dtype:
        if left_dtype == "int8":
            return _dp4a(left, right, zero)
        words = [tirx.reinterpret("uint32", value) for value in (left, right, zero)]
        return tirx.reinterpret("int32", tirx.call_pure_extern("uint32", _DOT, *words))
    # Σ x·w = Σ (x − 128)·w − Σ (−128)·w
    signed = left if left_dtype == "int8" else right
    return _dp4a(left, right, zero) - _dp4a(tirx.const(_SIGNS, "int32"), signed, zero)


def with_instructions(func: AnyFunc) -> AnyFunc:
    """The scheduled function with words and inner products as CUDA has them."""
    return tvm_ffi.structural_map(func, ((tirx.Add, _accumulated), (Call, _loaded)))


def _dp4a(left: Expression, right: Expression, total: Expression) -> Expression:
    return tirx.call_pure_extern("int32", _DOT, left, right, total)


def _extern(call: Any, name: str) -> list[Any] | None:
    """The arguments of a call of that function, else None."""
    if analysis.call_name(call) != "call_pure_extern" or not isinstance(call.args[0], StringImm):
        return None
    return list(call.args[1:]) if str(call.args[0].value) == name else None


def _accumulated(addition: Any) -> Any:
    """`sum + dot` by the instruction's own addition."""
    value: Any = addition.b
    if isinstance(value, tirx.Sub):
        first = _from_zero(value.a)
        return addition if first is None else _dp4a(*first, addition.a) - value.b
    if isinstance(value, Call) and analysis.call_name(value) == "reinterpret":
        unsigned = _from_zero(value.args[0])
        if unsigned is not None:
            total = tirx.reinterpret("uint32", addition.a)
            return tirx.reinterpret("int32", tirx.call_pure_extern("uint32", _DOT, *unsigned, total))
    words = _from_zero(value)
    return addition if words is None else _dp4a(*words, addition.a)


def _from_zero(value: Any) -> tuple[Any, Any] | None:
    """The words of an inner product that begins at 0; None for anything else."""
    arguments = _extern(value, _DOT) if isinstance(value, Call) else None
    if not arguments:
        return None
    begin = arguments[2]
    if isinstance(begin, Call) and analysis.call_name(begin) == "reinterpret":
        begin = begin.args[0]
    return (arguments[0], arguments[1]) if analysis.is_zero(begin) else None


def _loaded(call: Any) -> Any:
    """A word by one load where its bytes are aligned neighbours, else put together from them."""
    elements = _extern(call, _WORD)
    if elements is None:
        return call
    load = _one_load(elements)
    if load is not None:
        return tirx.reinterpret("int32", load)
    total: Any = None
    for position, element in enumerate(elements):
        part = element.astype("int32")
        if position < BYTES - 1:
            part = part & tirx.const(0xFF, "int32")
        part = part << tirx.const(8 * position, "int32") if position else part
        total = part if total is None else total | part
    return total


def _one_load(elements: Sequence[Any]) -> Any:
    """The four bytes as a vector, if they lie at 4i … 4i + 3 of one buffer's rows."""
    first = elements[0]
    if not all(isinstance(e, TensorLoad) and e.source.same_as(first.source) for e in elements):
        return None
    *outer, last = first.indices
    analyzer: Any = Analyzer()
    if int(first.source.shape[-1]) % BYTES or not analyzer.can_prove_equal(last % BYTES, 0):
        return None
    for position, element in enumerate(elements):
        *others, own = element.indices
        if not all(analyzer.can_prove_equal(a, b) for a, b in zip(others, outer, strict=True)):
            return None
        if not analyzer.can_prove_equal(own, last + position):
            return None
    lanes: Any = tirx.Ramp(last, tirx.const(1, "int32"), BYTES)  # pyright: ignore[reportArgumentType]
    return tirx.BufferLoad(first.source, [*outer, lanes])
