"""Small cases of every operator, shared by the tests of its compiled form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeir.ir.dtype import numpy_dtype

Maker = Callable[[np.random.Generator], np.ndarray]
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float32", "float64", "float16", "bfloat16")
FLOAT8 = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")


@dataclass(frozen=True)
class OpCase:
    """An operator applied to random inputs, or to inputs that are constants of the graph.

    Attributes:
        op: operator name.
        inputs: how each input is made; None for one that is absent.
        attributes: the operator's attributes.
        tolerance: relative to the largest finite magnitude of the expected result; 0: bits must be equal.
        constants: positions of the inputs that are constants.
    """

    op: str
    inputs: Sequence[Maker | None]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 0.0
    constants: frozenset[int] = frozenset()
    label: str = ""

    def __str__(self) -> str:
        return f"{self.op}-{self.label}"


def random(shape: Sequence[int], dtype: str = "float32", low: float = -4, high: float = 4) -> Maker:
    """Random numbers of a type between two bounds."""

    def make(rng: np.random.Generator) -> np.ndarray:
        if dtype == "bool":
            return rng.random(shape) < 0.5
        if "int" in dtype:
            least = max(low, 0) if dtype.startswith("uint") else low
            values = rng.integers(int(least), int(high) + 1, size=shape)
            return values.astype("int8" if dtype in ("int4", "uint4") else values.dtype).astype(numpy_dtype(dtype))
        return rng.uniform(low, high, shape).astype("float64" if dtype == "float64" else "float32").astype(
            numpy_dtype(dtype)
        )

    return make


def array(values: Any, dtype: str = "float32") -> Maker:
    """Given numbers."""
    return lambda rng: np.asarray(values).astype(numpy_dtype(dtype))


SPECIAL = array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -2.5, 0.5, 2.5, -0.5, 1e30, -1e-30])
_TOLERANCE = {"float32": 2e-6, "float64": 1e-12, "float16": 1e-3, "bfloat16": 8e-3}


def elementwise_cases() -> Iterator[OpCase]:
    """Unary and binary operators over types, special numbers and shapes that broadcast."""
    domains = {"log": (0.01, 4), "sqrt": (0, 4), "asin": (-1, 1), "acos": (-1, 1), "acosh": (1, 4), "atanh": (-0.9, 0.9)}
    transcendental = (
        "exp log sqrt sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf reciprocal sigmoid".split()
    )
    for op in transcendental:
        for dtype in FLOATS:
            yield OpCase(op, [random((3, 5), dtype, *domains.get(op, (-4, 4)))], {}, 4 * _TOLERANCE[dtype], label=dtype)
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
        yield OpCase(op, [SPECIAL, array(np.roll([np.nan, np.inf, -np.inf, 0, -0.0, 1, 2, 3, 4, 5, 6, 7], 3))], label="special")
        yield OpCase(op, [SPECIAL, array(1.5)], constants=frozenset({1}), label="scalar")
        yield OpCase(op, [array(1.5), SPECIAL], constants=frozenset({0}), label="scalar-first")
    for dtype in FLOATS:
        yield OpCase("div", [random((3, 4), dtype), random((4,), dtype, 1, 2)], {}, _TOLERANCE[dtype], label=dtype)
        yield OpCase("pow", [random((3, 4), dtype, 0.1, 3), random((4,), dtype, -2, 2)], {}, 8 * _TOLERANCE[dtype], label=dtype)
        for fmod in (False, True):
            yield OpCase("mod", [random((3, 4), dtype), random((4,), dtype, 0.5, 2)], {"fmod": fmod}, 0, label=f"{dtype}-{fmod}")
            yield OpCase("mod", [random((3, 4), dtype), random((4,), dtype, -2, -0.5)], {"fmod": fmod}, 0, label=f"{dtype}-{fmod}-negative")
    for dtype in INTEGERS:
        yield OpCase("div", [random((6, 8), dtype, -100, 100), random((8,), dtype, -7, 7)], label=dtype)
        yield OpCase("div", [array([-128, -127, 7, 0, 5], dtype if dtype == "int8" else "int8" if dtype[0] == "i" else dtype), array([-1, 0, 0, 0, 2], dtype if dtype == "int8" else "int8" if dtype[0] == "i" else dtype)], label=f"{dtype}-edges") if dtype[0] == "i" else OpCase("div", [array([3, 7], dtype), array([0, 2], dtype)], label=f"{dtype}-zero")
        yield OpCase("pow", [random((5, 6), dtype, -5, 5), random((6,), dtype, 0, 5)], label=dtype)
        for fmod in (False, True):
            yield OpCase("mod", [random((6, 8), dtype, -100, 100), random((8,), dtype, -7, 7)], {"fmod": fmod}, label=f"{dtype}-{fmod}")
        for op in ("bitwise_and", "bitwise_or", "bitwise_xor"):
            yield OpCase(op, [random((6, 8), dtype, -100, 100), random((8,), dtype, -7, 7)], label=dtype)
        for op in ("shift_left", "shift_right"):
            yield OpCase(op, [random((6, 9), dtype, -100, 100), array(list(range(7)) + [0, 1], dtype)], label=dtype)
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
        yield OpCase("is_nan", [lambda rng, d=dtype: SPECIAL(rng).astype(numpy_dtype(d))], label=dtype)
        for negative in (False, True):
            for positive in (False, True):
                yield OpCase("is_inf", [lambda rng, d=dtype: SPECIAL(rng).astype(numpy_dtype(d))], {"detect_negative": negative, "detect_positive": positive}, label=f"{dtype}-{negative}-{positive}")
    for dtype in (*FLOATS, *INTEGERS, "bool", "float8_e5m2", "int4"):
        yield OpCase("where", [random((4, 1), "bool"), random((4, 6), dtype, -3, 3), random((6,), dtype, -3, 3)], label=dtype)
    for dtype in (*FLOATS, *INTEGERS):
        yield OpCase("clip", [random((4, 6), dtype)], {"minimum": -1.5, "maximum": 2.5}, label=dtype)
    yield OpCase("clip", [SPECIAL], {"minimum": 0.0, "maximum": 6.0}, label="special")
    yield OpCase("clip", [SPECIAL], {"maximum": 1.0}, label="upper")
    for dtype in FLOATS:
        yield OpCase("leaky_relu", [random((4, 6), dtype)], {"alpha": 0.1}, label=dtype)


def conversion_cases() -> Iterator[OpCase]:
    """Every pair of element types; quantization."""
    types = (*FLOATS, *INTEGERS, "bool", *FLOAT8, "int4", "uint4")
    for source in types:
        for target in types:
            yield OpCase("cast", [random((3, 7), source, 0 if target.startswith("uint") else -7, 7)], {"dtype": target}, label=f"{source}-{target}")
    large = array([0, -0.0, 1, 1e-9, 0.001, 0.0009765625, 0.00048828125, 3, 448, 449, 464, 465, 240, 248, 57344, 61440, 61441, 1e6, -1e6, np.inf, -np.inf, np.nan])
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
        yield OpCase("quantize", [x, random((4, 1), "float32", 0.01, 0.02), random((4, 1), dtype, low, high)], label=dtype)
        yield OpCase("quantize", [array([np.inf, -np.inf, 0.5, 1.5, 2.5, 1e9, -1e9]), array(1.0), array(1, dtype)], label=f"{dtype}-edges")
        yield OpCase("dequantize", [random((3, 4, 5), dtype, low, high), random((4, 1), "float32", 0.01, 0.2), random((4, 1), dtype, low, high)], {}, 1e-6, label=dtype)
    for dtype in FLOAT8:
        yield OpCase("quantize", [random((3, 4)), array(0.25), array(0.0, dtype)], label=dtype)
        yield OpCase("dequantize", [random((3, 4), dtype), array(0.25)], {}, 0, label=dtype)


def movement_cases() -> Iterator[OpCase]:
    """Operators that move elements."""
    for dtype in ("float32", "bool", "int4", "float8_e4m3fn", "bfloat16", "uint64"):
        x = random((2, 3, 4), dtype, 0, 5)
        yield OpCase("reshape", [x], {"shape": (4, 6)}, label=dtype)
        yield OpCase("transpose", [x], {"perm": (2, 0, 1)}, label=dtype)
        yield OpCase("expand", [random((3, 1), dtype)], {"shape": (2, 3, 4)}, label=dtype)
        yield OpCase("tile", [x], {"repeats": (1, 2, 3)}, label=dtype)
        yield OpCase("slice", [x], {"starts": (1, 2, 0), "sizes": (1, 3, 2), "steps": (1, -1, 2)}, label=dtype)
        yield OpCase("concat", [x, random((2, 1, 4), dtype), random((2, 0, 4), dtype)], {"axis": 1}, label=dtype)
        yield OpCase("trilu", [x], {"upper": True, "k": 1}, label=dtype)
        yield OpCase("gather", [x, array([[0, -1], [2, 1]], "int64")], {"axis": 1}, label=dtype)
        for mode in ("constant", "edge", "reflect", "wrap"):
            yield OpCase("pad", [x], {"padding": (0, 2, 1, 1, 0, 5), "mode": mode}, label=f"{dtype}-{mode}")
    yield OpCase("pad", [random((2, 3)), array(7.5)], {"padding": (0, 2, 1, 1)}, constants=frozenset({1}), label="value")
    yield OpCase("pad", [random((2, 3)), array([7.5])], {"padding": (0, 2, 1, 1)}, label="value-input")
    yield OpCase("pad", [random((0, 3))], {"padding": (1, 2, 1, 1)}, label="empty")
    yield OpCase("trilu", [random((4, 3))], {"upper": False, "k": -1}, label="lower")
    yield OpCase("reshape", [random((1,))], {"shape": ()}, label="scalar")
    yield OpCase("reshape", [random((0, 3))], {"shape": (3, 0)}, label="empty")
    yield OpCase("iota", [], {"size": 5, "dtype": "int64"}, label="int64")
    yield OpCase("iota", [], {"size": 5, "dtype": "float32"}, label="float32")
    yield OpCase("iota", [], {"size": 5, "dtype": "bfloat16"}, label="bfloat16")
    yield OpCase("dims", [], {"values": (3, 4, 2**40)})
    yield OpCase("dims", [], {"values": ()}, label="empty")
    yield OpCase("gather", [random((5,)), array(-2, "int32")], {"axis": 0}, label="scalar-index")
    yield OpCase("gather_elements", [random((3, 4)), random((2, 4), "int64", -3, 2)], {"axis": 0})
    yield OpCase("gather_nd", [random((2, 3, 4)), array([[0, 1], [-1, 2]], "int64")])
    yield OpCase("gather_nd", [random((2, 3, 4)), array([[[1]], [[-1]]], "int64")], {"batch_dims": 1}, label="batch")
    for reduction in ("none", "add", "mul", "max", "min"):
        unique = array([[0, -1, 2, 1], [1, 0, -3, 2]] if reduction == "none" else [[0, 0, 2, 1], [0, -3, 2, 2]], "int64")
        for dtype in ("float32", "int32", "float16"):
            yield OpCase("scatter_elements", [random((3, 4), dtype), unique, random((2, 4), dtype)], {"axis": 0, "reduction": reduction}, _TOLERANCE.get(dtype, 0), label=f"{reduction}-{dtype}")
        points = array([[0], [2]] if reduction == "none" else [[2], [-1]], "int32")
        yield OpCase("scatter_nd", [random((3, 4)), points, random((2, 4))], {"reduction": reduction}, 1e-6, label=reduction)
    yield OpCase("scatter_nd", [random((3, 4)), array([[0, 1], [-1, 2]], "int64"), random((2,))], label="points")
    for layout in ("NCHW4c", ""):
        yield OpCase("layout_cast", [random((1, 6, 2, 3))], {"layout": layout}, label=layout)


def reduction_cases() -> Iterator[OpCase]:
    """Reductions, running sums, sorting."""
    for op in ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod"):
        for dtype in (*FLOATS, *INTEGERS):
            high = 2 if op == "reduce_prod" else 60
            yield OpCase(op, [random((3, 4, 5), dtype, -high, high)], {"axes": (0, 2), "keepdims": dtype == "int8"}, _TOLERANCE.get(dtype, 0), label=dtype)
        for dtype in ("float32", "int32"):
            if op != "reduce_mean":
                yield OpCase(op, [random((3, 0, 2), dtype)], {"axes": (1,)}, label=f"empty-{dtype}")
        yield OpCase(op, [random((3, 0, 2))], {"axes": (0,)}, label="empty-result")
        yield OpCase(op, [random((3, 4))], {"axes": (0, 1), "keepdims": False}, 2e-6, label="all")
    for op in ("reduce_max", "reduce_min"):
        yield OpCase(op, [random((3, 4), "bool")], {"axes": (1,)}, label="bool")
        yield OpCase(op, [array([[1, np.nan, 3], [np.nan, 2, 1], [-np.inf, -np.inf, -np.inf], [np.inf, 1, np.inf]])], {"axes": (1,)}, label="special")
    for op in ("arg_max", "arg_min"):
        for dtype in ("float32", "int8", "uint64", "bfloat16"):
            for last in (False, True):
                yield OpCase(op, [random((4, 9), dtype, -2, 2)], {"axis": 1, "select_last": last, "keepdims": last}, label=f"{dtype}-{last}")
        yield OpCase(op, [array([[1, np.nan, 3, np.nan], [-np.inf] * 4, [2, 2, 1, 1], [np.inf] * 4])], {"axis": 1}, label="special")
        yield OpCase(op, [array([[1, np.nan, 3, np.nan], [-np.inf] * 4, [2, 2, 1, 1], [np.inf] * 4])], {"axis": 1, "select_last": True}, label="special-last")
    for op in ("cum_sum", "cum_prod"):
        for exclusive in (False, True):
            for reverse in (False, True):
                yield OpCase(op, [random((3, 4, 2), "float32", -2, 2)], {"axis": 1, "exclusive": exclusive, "reverse": reverse}, 2e-6, label=f"{exclusive}-{reverse}")
        for dtype in ("int32", "float16", "float64"):
            yield OpCase(op, [random((3, 4), dtype, -2, 2)], {"axis": 0}, _TOLERANCE.get(dtype, 0), label=dtype)
        yield OpCase(op, [random((3, 1))], {"axis": 1, "exclusive": True}, label="one")
    for largest in (False, True):
        for dtype in ("float32", "int8", "uint8", "int64", "bfloat16"):
            yield OpCase("top_k", [random((2, 13, 3), dtype, -3, 3)], {"k": 5, "axis": 1, "largest": largest}, label=f"{dtype}-{largest}")
        yield OpCase("top_k", [array([3, np.nan, -np.inf, 5, 3, np.inf, np.nan, -1, 3])], {"k": 9, "axis": 0, "largest": largest}, label=f"special-{largest}")
        yield OpCase("top_k", [random((2, 3))], {"k": 0, "axis": 1, "largest": largest}, label=f"none-{largest}")
        yield OpCase("top_k", [random((4, 1))], {"k": 1, "axis": 1, "largest": largest}, label=f"one-{largest}")


def network_cases() -> Iterator[OpCase]:
    """Convolutions, pools, products, normalizations, resampling."""
    for dtype in FLOATS:
        tolerance = 4 * _TOLERANCE[dtype]
        yield OpCase("conv", [random((2, 4, 7, 6), dtype), random((6, 2, 3, 2), dtype), random((6,), dtype)], {"strides": (2, 1), "padding": (1, 0, 2, 1), "dilations": (1, 2), "groups": 2}, tolerance, label=dtype)
        yield OpCase("conv_transpose", [random((2, 4, 5, 3), dtype), random((4, 3, 3, 2), dtype), random((6,), dtype)], {"strides": (2, 1), "padding": (1, 0, 0, 1), "dilations": (1, 2), "output_padding": (1, 0), "groups": 2}, tolerance, label=dtype)
        yield OpCase("matmul", [random((2, 3, 5), dtype), random((5, 4), dtype)], {}, tolerance, label=dtype)
        yield OpCase("softmax", [random((3, 4, 5), dtype)], {"axis": 1}, tolerance, label=dtype)
        yield OpCase("log_softmax", [random((3, 4, 5), dtype)], {"axis": 2}, tolerance, label=dtype)
        yield OpCase("layer_norm", [random((3, 4, 5), dtype), random((4, 5), dtype), random((5,), dtype)], {"axis": 1, "epsilon": 1e-5}, tolerance, label=dtype)
        yield OpCase("batch_norm", [random((2, 3, 4, 5), dtype), *[random((3,), dtype)] * 3, random((3,), dtype, 0.5, 2)], {"epsilon": 1e-5}, tolerance, label=dtype)
        yield OpCase("max_pool", [random((1, 3, 7, 6), dtype)], {"kernel": (3, 2), "strides": (2, 2), "padding": (1, 0, 1, 0), "dilations": (1, 2)}, label=dtype)
        for include in (False, True):
            yield OpCase("average_pool", [random((1, 3, 7, 6), dtype)], {"kernel": (3, 2), "strides": (2, 2), "padding": (1, 0, 1, 1), "dilations": (2, 1), "ceil_mode": True, "count_include_pad": include}, tolerance, label=f"{dtype}-{include}")
        yield OpCase("einsum", [random((2, 3, 4), dtype), random((2, 4, 5), dtype)], {"equation": "bij,bjk->bik"}, tolerance, label=dtype)
    yield OpCase("conv", [random((1, 3, 9)), random((5, 3, 3))], {"strides": (1,), "padding": (1, 1), "dilations": (1,)}, 1e-5, label="1d")
    yield OpCase("conv", [random((1, 2, 4, 5, 6)), random((3, 2, 2, 3, 1))], {"strides": (1, 2, 1), "padding": (0, 1, 0, 0, 1, 0), "dilations": (1, 1, 1)}, 1e-5, label="3d")
    yield OpCase("conv", [random((1, 4, 5, 5)), random((4, 1, 3, 3)), random((4,))], {"strides": (1, 1), "padding": (1, 1, 1, 1), "dilations": (1, 1), "groups": 4}, 1e-5, frozenset({1, 2}), label="depthwise")
    yield OpCase("conv_transpose", [random((1, 2, 4)), random((2, 3, 3))], {"strides": (2,), "padding": (0, 0), "dilations": (1,), "output_padding": (0,)}, 1e-5, label="1d")
    for dtype in ("int8", "uint8", "int32"):
        yield OpCase("max_pool", [random((1, 2, 5), dtype, -50, 50)], {"kernel": (2,), "strides": (2,), "padding": (0, 1), "dilations": (1,), "ceil_mode": True}, label=dtype)
        yield OpCase("matmul", [random((3, 5), dtype, -50, 50), random((5, 4), dtype, -50, 50)], label=dtype)
    yield OpCase("average_pool", [random((1, 2, 4, 4, 4))], {"kernel": (2, 2, 2), "strides": (2, 2, 2), "padding": (0,) * 6, "dilations": (1, 1, 1)}, 1e-6, label="3d")
    for a in (False, True):
        for b in (False, True):
            yield OpCase("matmul", [random((2, 1, 5, 3) if a else (2, 1, 3, 5)), random((3, 4, 5) if b else (3, 5, 4))], {"transpose_a": a, "transpose_b": b}, 1e-5, label=f"{a}-{b}")
    yield OpCase("matmul", [random((3, 0)), random((0, 4))], label="empty")
    for equation, shapes in (("ij->ji", [(2, 3)]), ("ii->i", [(3, 3)]), ("ij,jk", [(2, 3), (3, 4)]), ("...ij,...jk->...ik", [(2, 2, 3), (3, 4)]), ("ij->", [(3, 4)]), ("a,b,c->abc", [(2,), (3,), (2,)])):
        yield OpCase("einsum", [random(shape) for shape in shapes], {"equation": equation}, 1e-5, label=equation)
    yield OpCase("softmax", [array([[1, np.nan, 2], [-np.inf, 0, -np.inf], [np.inf, 0, 0]])], {"axis": 1}, 1e-6, label="special")
    yield OpCase("softmax", [random((0, 3))], {"axis": 0}, label="empty")
    yield OpCase("layer_norm", [random((3, 5)), random((5,))], {"axis": 1, "epsilon": 1e-5}, 1e-5, label="no-bias")
    yield OpCase("layer_norm", [random((3, 5)), random((1,)), random(())], {"axis": 0, "epsilon": 1e-5}, 1e-5, label="broadcast")
    yield from resampling_cases()


def resampling_cases() -> Iterator[OpCase]:
    """Resize in all modes, and grid_sample."""
    coordinates = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize")
    for mode in ("nearest", "linear", "cubic"):
        for coordinate in coordinates:
            for sizes in ((1, 2, 8, 6), (1, 2, 3, 2), (1, 2, 5, 9)):
                attributes: dict[str, Any] = {"sizes": sizes, "mode": mode, "coordinate_transformation": coordinate, "extrapolation_value": 9.0}
                if coordinate == "tf_crop_and_resize":
                    attributes["roi"] = (0.0, 0.0, 0.2, -0.3, 1.0, 1.0, 0.9, 1.2)
                yield OpCase("resize", [random((1, 2, 4, 3))], attributes, 4e-6, label=f"{mode}-{coordinate}-{sizes[2]}")
    for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        yield OpCase("resize", [random((1, 2, 4, 3))], {"sizes": (1, 2, 7, 2), "nearest_mode": rounding}, label=rounding)
    for mode in ("linear", "cubic"):
        yield OpCase("resize", [random((1, 1, 9, 8))], {"sizes": (1, 1, 4, 3), "mode": mode, "antialias": True}, 4e-6, label=f"antialias-{mode}")
        yield OpCase("resize", [random((1, 1, 9, 8))], {"sizes": (1, 1, 14, 5), "mode": mode, "exclude_outside": True}, 4e-6, label=f"exclude-{mode}")
        for dtype in ("uint8", "int32", "float16", "float64", "bfloat16"):
            yield OpCase("resize", [random((1, 1, 5, 4), dtype, 0, 100)], {"sizes": (1, 1, 8, 3), "mode": mode}, _TOLERANCE.get(dtype, 0), label=f"{mode}-{dtype}")
    for mode in ("nearest", "linear", "cubic"):
        for padding in ("zeros", "border", "reflection"):
            for align in (False, True):
                attributes = {"mode": mode, "padding_mode": padding, "align_corners": align}
                yield OpCase("grid_sample", [random((2, 3, 5, 4)), random((2, 3, 6, 2), "float32", -1.6, 1.6)], attributes, 1e-5, label=f"{mode}-{padding}-{align}")
    yield OpCase("grid_sample", [random((1, 2, 3, 4, 5)), random((1, 2, 3, 4, 3), "float32", -1.2, 1.2)], {"mode": "linear"}, 1e-5, label="3d")
    yield OpCase("grid_sample", [random((1, 2, 3, 4), "float64"), random((1, 2, 3, 2), "float64", -1.2, 1.2)], {"mode": "cubic"}, 1e-6, label="float64")


def all_cases() -> list[OpCase]:
    """Every case."""
    return [
        *elementwise_cases(), *conversion_cases(), *movement_cases(), *reduction_cases(), *network_cases()
    ]  # fmt: skip
