"""Integer convolutions and products by every kind of zero point, constant or computed weights, 4 bits and 8."""

from __future__ import annotations

from tests.lowering.op_case import Maker, OpCase, random

PLAIN = {"strides": (1, 1), "padding": (0, 0, 0, 0), "dilations": (1, 1), "groups": 1}
UNEVEN = {"strides": (2, 1), "padding": (1, 0, 2, 1), "dilations": (1, 2), "groups": 2}


def _byte(dtype: str, shape: tuple[int, ...] = ()) -> Maker:
    return random(shape, dtype, *{"uint8": (0, 255), "int8": (-128, 127), "int4": (-8, 7), "uint4": (0, 15)}[dtype])


def integer_cases() -> list[OpCase]:
    """Cases of `conv_integer` and `matmul_integer`."""
    bias = random((6,), "int32", -1000, 1000)
    cases = []
    for x, weights in (("uint8", ("int8", "uint8", "int4")), ("int8", ("int8", "uint4"))):
        for w in weights:
            image, weight = _byte(x, (1, 4, 7, 6)), _byte(w, (6, 2, 3, 2))
            zeros = {
                "no zero": [],
                "left zero": [_byte(x)],
                "both zeros": [_byte(x), _byte(w)],
                "zero per channel": [_byte(x), _byte(w, (6,))],
            }
            for label, more in zeros.items():
                for constants in ((), (1, 2, 3, 4)):
                    fixed = frozenset(i for i in constants if i < 3 + len(more))
                    inputs = [image, weight, bias, *more]
                    cases.append(
                        OpCase("conv_integer", inputs, UNEVEN, constants=fixed, label=f"{x} {w} {label} {len(fixed)}")
                    )
    line = {"strides": (2,), "padding": (1, 1), "dilations": (1,), "groups": 1}
    inputs = [_byte("uint8", (2, 3, 9)), _byte("int8", (5, 3, 3)), None, _byte("uint8")]
    cases.append(OpCase("conv_integer", inputs, line, constants=frozenset((1, 3)), label="line"))
    inputs = [_byte("uint8", (1, 3, 4, 4)), _byte("int8", (1, 3, 1, 1)), random((1,), "int32"), _byte("uint8")]
    cases.append(OpCase("conv_integer", inputs, PLAIN, constants=frozenset((1, 2, 3)), label="one channel"))
    return [*cases, *_products()]


def _products() -> list[OpCase]:
    cases = []
    for transpose_a in (False, True):
        for transpose_b in (False, True):
            flags = {"transpose_a": transpose_a, "transpose_b": transpose_b}
            a = _byte("uint8", (2, 5, 3) if transpose_a else (2, 3, 5))
            b = _byte("int8", (4, 5) if transpose_b else (5, 4))
            zeros = {"none": [], "left": [_byte("uint8")], "columns": [_byte("uint8"), _byte("int8", (4,))]}
            for label, more in zeros.items():
                for constants in ((), (1, 2, 3)):
                    fixed = frozenset(i for i in constants if i < 2 + len(more))
                    name = f"{transpose_a:d}{transpose_b:d} {label} {len(fixed)}"
                    cases.append(OpCase("matmul_integer", [a, b, *more], flags, constants=fixed, label=name))
    flags = {"transpose_a": False, "transpose_b": False}
    for b in ("uint8", "int4", "uint4"):
        inputs = [_byte("int8", (3, 5)), _byte(b, (2, 5, 4)), _byte("int8")]
        cases.append(OpCase("matmul_integer", inputs, flags, constants=frozenset((1, 2)), label=f"batch {b}"))
    return cases
