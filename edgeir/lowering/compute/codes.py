"""Tables, and codes of logarithmic quantization."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx

from edgeir.lowering import te
from edgeir.lowering.compute.elementwise import element
from edgeir.lowering.compute.expressions import Expression, cast, constant, dtype_of, is_nan, is_unsigned, select
from edgeir.lowering.compute.registry import Call, compute


@compute("lookup")
def lookup(call: Call) -> te.Tensor:
    """table[x − lowest]."""
    table = call.tensor(1)
    entries = call.shape(1)[0]

    def body(*position: Any) -> Expression:
        index = element(call, 0, position)
        offset = 0 if is_unsigned(dtype_of(index)) else entries // 2
        return table(index.astype("int32") + offset if offset else index.astype("int32"))

    return te.compute(call.output_shape, body, name="lookup")


@compute("log_quantize")
def log_quantize(call: Call) -> te.Tensor:
    """Codes of sign and round(log2(|x| / scale)).

    round(log2(r)) ≥ e exactly if log2(r) > e − ½ (or equal, where e is even), so the exponent is the number of limits
    2^(e − ½) that r exceeds, which is exact where a logarithm would round. No number is exactly an odd power of √2, so
    ties do not occur.
    """
    bits = int(call.attributes["bits"])
    q = 1 << (bits - 2)

    def body(*position: Any) -> Expression:
        x, scale = (cast(element(call, index, position), "float64") for index in (0, 1))
        zero = constant(0, "float64")
        ratio = select(x < zero, zero - x, x) / scale
        if bits <= 4:
            index: Expression = constant(0, "int32")
            for exponent in range(1 - q, q):
                index = index + (ratio > constant(2.0 ** (exponent - 0.5), "float64")).astype("int32")
        else:
            index = _exponent(ratio, q)
        sign = select(tirx.all(index > 0, x < zero), constant(1 << (bits - 1), "int32"), constant(0, "int32"))
        return cast(select(is_nan(ratio), constant(0, "int32"), index | sign), call.dtype)

    return te.compute(call.output_shape, body, name="log_quantize")


def _exponent(ratio: Expression, q: int) -> Expression:
    """clamp(round(log2(ratio)), −q, q − 1) + q from the bits of a float64 that is not negative."""
    bits = tirx.reinterpret("int64", ratio)
    exponent = (bits >> constant(52, "int64")).astype("int32") - constant(1023, "int32")
    fraction = bits & constant((1 << 52) - 1, "int64")
    # The mantissa of √2 lies between this number and the next.
    half = constant(int(np.float64(2**0.5).view(np.int64)) & ((1 << 52) - 1), "int64")
    rounded = exponent + (fraction > half).astype("int32")
    return tirx.min(tirx.max(rounded, constant(-q, "int32")), constant(q - 1, "int32")) + constant(q, "int32")


@compute("log_dequantize")
def log_dequantize(call: Call) -> te.Tensor:
    """sign·scale·2^e, the power from a float32's own sign and exponent bits: no table, so vectors need no gathers."""
    bits, target = int(call.attributes["bits"]), call.dtype
    # The product of a power of two and the scale is exact in the scale's own type, but for its smallest numbers.
    wide = "float64" if target == "float64" else "float32"

    def body(*position: Any) -> Expression:
        code, scale = element(call, 0, position), element(call, 1, position)
        return cast(cast(_power(code.astype("int32"), bits), wide) * cast(scale, wide), target)

    return te.compute(call.output_shape, body, name="log_dequantize")


def _power(code: Expression, bits: int) -> Expression:
    """What a code stands for with a scale of 1, as float32.

    The code's magnitude becomes the exponent bits and its sign the sign bit. That is a power of two, or 0 with the code
    of zero; a factor makes up for the bias of float32's exponent (127).
    """
    half, q = 1 << (bits - 1), 1 << (bits - 2)
    magnitude = (code & constant(half - 1, "int32")) << constant(23, "int32")
    sign = (code & constant(half, "int32")) << constant(32 - bits, "int32")
    return tirx.reinterpret("float32", magnitude | sign) * constant(2.0 ** (127 - q), "float32")
