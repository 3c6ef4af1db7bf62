"""Cases of conversions between element types."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeir.ir.dtype import numpy_dtype
from tests.lowering.op_case import FLOAT8, FLOATS, INTEGERS, OpCase, array, random


def conversion_cases() -> Iterator[OpCase]:
    """Every pair of element types; quantization."""
    types = (*FLOATS, *INTEGERS, "bool", *FLOAT8, "int4", "uint4")
    for source in types:
        for target in types:
            yield OpCase(
                "cast",
                [random((3, 7), source, 0 if target.startswith("uint") else -7, 7)],
                {"dtype": target},
                label=f"{source}-{target}",
            )
    large = array(
        [
            0,
            -0.0,
            1,
            1e-9,
            0.001,
            0.0009765625,
            0.00048828125,
            3,
            448,
            449,
            464,
            465,
            240,
            248,
            57344,
            61440,
            61441,
            1e6,
            -1e6,
            np.inf,
            -np.inf,
            np.nan,
        ]
    )
    for target in (*FLOAT8, "bfloat16", "float16"):
        for saturate in (False, True):
            yield OpCase("cast", [large], {"dtype": target, "saturate": saturate}, label=f"edges-{target}-{saturate}")
    codes = lambda name: lambda rng: np.arange(256).astype("uint8").view(numpy_dtype(name))  # noqa: E731
    for source in FLOAT8:
        yield OpCase("cast", [codes(source)], {"dtype": "float32"}, label=f"all-{source}")
        yield OpCase("bit_cast", [codes(source)], {"dtype": "uint8"}, label=source)
    for a, b in (("float32", "int32"), ("int64", "float64"), ("float16", "bfloat16"), ("uint8", "int8")):
        yield OpCase("bit_cast", [random((3, 4), a)], {"dtype": b}, label=a)
    for dtype in ("int8", "uint8", "int16", "uint16", "int32", "int4", "uint4"):
        low, high = (0, 7) if dtype.startswith("uint") else (-3, 3)
        x = random((3, 4, 5), "float32", -3, 3)
        yield OpCase(
            "quantize", [x, random((4, 1), "float32", 0.01, 0.02), random((4, 1), dtype, low, high)], label=dtype
        )
        yield OpCase(
            "quantize",
            [array([np.inf, -np.inf, 0.5, 1.5, 2.5, 1e9, -1e9]), array(1.0), array(1, dtype)],
            label=f"{dtype}-edges",
        )
        yield OpCase(
            "dequantize",
            [
                random((3, 4, 5), dtype, low, high),
                random((4, 1), "float32", 0.01, 0.2),
                random((4, 1), dtype, low, high),
            ],
            {},
            1e-6,
            label=dtype,
        )
    for dtype in FLOAT8:
        yield OpCase("quantize", [random((3, 4)), array(0.25), array(0.0, dtype)], label=dtype)
        yield OpCase("dequantize", [random((3, 4), dtype), array(0.25)], {}, 0, label=dtype)
    yield from code_cases()


def code_cases() -> Iterator[OpCase]:
    """Quantization with a scale of 1; tables; logarithmic codes."""
    edges = array([0.5, 1.5, 2.5, -0.5, -1.5, 127.5, 128.5, 254.5, 255.5, 1e6, -1e6])
    special = array([np.inf, -np.inf, np.nan, -np.nan, 1e9, -1e9, 3e38, 1e-40])
    for dtype, zeros in (("int8", (0, 4, -3)), ("uint8", (0, 128, 7)), ("int4", (0, -3)), ("uint4", (0, 7))):
        for zero in zeros:
            for name, x in (("edges", edges), ("special", special), ("random", random((3, 50), "float32", -300, 300))):
                yield OpCase(
                    "quantize",
                    [x, array(np.float32(1)), array(zero, dtype)],
                    constants=frozenset({1, 2}),
                    label=f"{dtype}-unit-{name}-{zero}",
                )
    for dtype, entries in (("int8", 256), ("uint8", 256), ("int4", 16), ("uint4", 16)):
        low = 0 if dtype.startswith("u") else -entries // 2
        for result in ("int8", "float32"):
            inputs = [random((3, 40), dtype, low, low + entries - 1), random((entries,), result, -100, 100)]
            yield OpCase("lookup", inputs, label=f"{dtype}-{result}")
    for bits in (3, 4, 5, 8):
        codes = "uint4" if bits == 4 else "uint8"
        x = array([0.0, -0.0, 1.0, -1.0, 1e-30, -1e30, np.inf, -np.inf, 0.7, 0.71, -1.41, 1.42, 2.8, 2.9, np.nan])
        yield OpCase("log_quantize", [x, array(np.float32(1))], {"bits": bits}, label=f"{bits}-{codes}-edges")
        inputs = [random((4, 30)), random((4, 1), "float32", 0.1, 2)]
        yield OpCase("log_quantize", inputs, {"bits": bits}, label=f"{bits}-{codes}")
        inputs = [random((4, 30), codes, 0, (1 << bits) - 1), random((4, 1), "float32", 0.1, 2)]
        yield OpCase("log_dequantize", inputs, {"bits": bits}, 1e-6, label=f"{bits}-{codes}")
