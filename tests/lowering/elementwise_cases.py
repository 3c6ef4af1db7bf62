"""Cases of elementwise operators."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeir.ir.dtype import numpy_dtype
from tests.lowering.op_case import FLOATS, INTEGERS, SPECIAL, TOLERANCE, Maker, OpCase, array, random


def special(dtype: str) -> Maker:
    """`SPECIAL` in a type; what it cannot hold becomes infinity."""

    def make(rng: np.random.Generator) -> np.ndarray:
        with np.errstate(over="ignore"):
            return SPECIAL(rng).astype(numpy_dtype(dtype))

    return make


def elementwise_cases() -> Iterator[OpCase]:
    """Unary and binary operators over types, special numbers and shapes that broadcast."""
    domains = {
        "log": (0.01, 4),
        "sqrt": (0, 4),
        "asin": (-1, 1),
        "acos": (-1, 1),
        "acosh": (1, 4),
        "atanh": (-0.9, 0.9),
    }
    transcendental = [
        "exp",
        "log",
        "sqrt",
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "asinh",
        "acosh",
        "atanh",
        "erf",
        "reciprocal",
        "sigmoid",
    ]
    for op in transcendental:
        for dtype in FLOATS:
            yield OpCase(op, [random((3, 5), dtype, *domains.get(op, (-4, 4)))], {}, 4 * TOLERANCE[dtype], label=dtype)
    for op in ("exp", "sqrt", "tanh", "sigmoid", "erf", "reciprocal"):
        yield OpCase(op, [SPECIAL], {}, 2e-6, label="special")
    for op in ("floor", "ceil", "round", "abs", "neg", "sign", "relu"):
        for dtype in FLOATS:
            yield OpCase(op, [random((3, 5), dtype)], label=dtype)
        yield OpCase(op, [SPECIAL], label="special")
    for op in ("abs", "sign", "relu"):
        for dtype in INTEGERS:
            yield OpCase(op, [random((3, 5), dtype, -100, 100)], label=dtype)
    for dtype in ("int8", "int32", "int64"):
        yield OpCase("neg", [random((7,), dtype, -100, 100)], label=dtype)
    for op in ("add", "sub", "mul", "minimum", "maximum"):
        for dtype in (*FLOATS, *INTEGERS):
            wide = 100 if "int" in dtype else 4
            yield OpCase(op, [random((2, 3, 5), dtype, -wide, wide), random((3, 1), dtype, -wide, wide)], label=dtype)
        yield OpCase(
            op, [SPECIAL, array(np.roll([np.nan, np.inf, -np.inf, 0, -0.0, 1, 2, 3, 4, 5, 6, 7], 3))], label="special"
        )
        yield OpCase(op, [SPECIAL, array(1.5)], constants=frozenset({1}), label="scalar")
        yield OpCase(op, [array(1.5), SPECIAL], constants=frozenset({0}), label="scalar-first")
    for dtype in FLOATS:
        yield OpCase("div", [random((3, 4), dtype), random((4,), dtype, 1, 2)], {}, TOLERANCE[dtype], label=dtype)
        yield OpCase(
            "pow", [random((3, 4), dtype, 0.1, 3), random((4,), dtype, -2, 2)], {}, 8 * TOLERANCE[dtype], label=dtype
        )
        for fmod in (False, True):
            yield OpCase(
                "mod", [random((3, 4), dtype), random((4,), dtype, 0.5, 2)], {"fmod": fmod}, 0, label=f"{dtype}-{fmod}"
            )
            yield OpCase(
                "mod",
                [random((3, 4), dtype), random((4,), dtype, -2, -0.5)],
                {"fmod": fmod},
                0,
                label=f"{dtype}-{fmod}-negative",
            )
    for dtype in INTEGERS:
        yield OpCase("div", [random((6, 8), dtype, -100, 100), random((8,), dtype, -7, 7)], label=dtype)
        yield (
            OpCase(
                "div",
                [
                    array([-128, -127, 7, 0, 5], dtype if dtype == "int8" else "int8" if dtype[0] == "i" else dtype),
                    array([-1, 0, 0, 0, 2], dtype if dtype == "int8" else "int8" if dtype[0] == "i" else dtype),
                ],
                label=f"{dtype}-edges",
            )
            if dtype[0] == "i"
            else OpCase("div", [array([3, 7], dtype), array([0, 2], dtype)], label=f"{dtype}-zero")
        )
        yield OpCase("pow", [random((5, 6), dtype, -5, 5), random((6,), dtype, 0, 5)], label=dtype)
        for fmod in (False, True):
            yield OpCase(
                "mod",
                [random((6, 8), dtype, -100, 100), random((8,), dtype, -7, 7)],
                {"fmod": fmod},
                label=f"{dtype}-{fmod}",
            )
        for op in ("bitwise_and", "bitwise_or", "bitwise_xor"):
            yield OpCase(op, [random((6, 8), dtype, -100, 100), random((8,), dtype, -7, 7)], label=dtype)
        for op in ("shift_left", "shift_right"):
            yield OpCase(op, [random((6, 9), dtype, -100, 100), array([*range(7), 0, 1], dtype)], label=dtype)
        yield OpCase("bitwise_not", [random((6,), dtype, -100, 100)], label=dtype)
    yield OpCase("pow", [random((4, 5), "float32", 0, 3), array(0.5)], {}, 1e-6, frozenset({1}), label="root")
    yield OpCase("pow", [SPECIAL, array(2.0)], {}, 1e-6, frozenset({1}), label="square")
    yield OpCase("pow", [random((4, 5), "float32", 0, 3), random((5,), "int64", 0, 3)], {}, 1e-6, label="int-exponent")
    yield OpCase("pow", [random((4, 5), "int32", 1, 3), random((5,), "float32", 0, 3)], {}, 0, label="float-exponent")
    for op in ("equal", "less", "less_equal", "greater", "greater_equal"):
        for dtype in (*FLOATS, "int8", "uint64", "bool"):
            yield OpCase(op, [random((4, 6), dtype, -2, 2), random((6,), dtype, -2, 2)], label=dtype)
        yield OpCase(op, [SPECIAL, array(0.0)], label="special")
    for op in ("logical_and", "logical_or", "logical_xor"):
        yield OpCase(op, [random((4, 6), "bool"), random((6,), "bool")])
    yield OpCase("logical_not", [random((4, 6), "bool")])
    for dtype in FLOATS:
        yield OpCase("is_nan", [special(dtype)], label=dtype)
        for negative in (False, True):
            for positive in (False, True):
                yield OpCase(
                    "is_inf",
                    [special(dtype)],
                    {"detect_negative": negative, "detect_positive": positive},
                    label=f"{dtype}-{negative}-{positive}",
                )
    for dtype in (*FLOATS, *INTEGERS, "bool", "float8_e5m2", "int4"):
        yield OpCase(
            "where", [random((4, 1), "bool"), random((4, 6), dtype, -3, 3), random((6,), dtype, -3, 3)], label=dtype
        )
    for dtype in (*FLOATS, *INTEGERS):
        yield OpCase("clip", [random((4, 6), dtype)], {"minimum": -1.5, "maximum": 2.5}, label=dtype)
    yield OpCase("clip", [SPECIAL], {"minimum": 0.0, "maximum": 6.0}, label="special")
    yield OpCase("clip", [SPECIAL], {"maximum": 1.0}, label="upper")
    for dtype in FLOATS:
        yield OpCase("leaky_relu", [random((4, 6), dtype)], {"alpha": 0.1}, label=dtype)
