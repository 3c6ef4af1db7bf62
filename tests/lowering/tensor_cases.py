"""Cases of operators that move, reduce, scan and sort."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.lowering.op_case import FLOATS, INTEGERS, TOLERANCE, OpCase, array, random


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
    yield OpCase(
        "pad", [random((2, 3)), array(7.5)], {"padding": (0, 2, 1, 1)}, constants=frozenset({1}), label="value"
    )
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
        unique = array(
            [[0, -1, 2, 1], [1, 0, -3, 2]] if reduction == "none" else [[0, 0, 2, 1], [0, -3, 2, 2]], "int64"
        )
        for dtype in ("float32", "int32", "float16"):
            yield OpCase(
                "scatter_elements",
                [random((3, 4), dtype), unique, random((2, 4), dtype)],
                {"axis": 0, "reduction": reduction},
                TOLERANCE.get(dtype, 0),
                label=f"{reduction}-{dtype}",
            )
        points = array([[0], [2]] if reduction == "none" else [[2], [-1]], "int32")
        yield OpCase(
            "scatter_nd", [random((3, 4)), points, random((2, 4))], {"reduction": reduction}, 1e-6, label=reduction
        )
    yield OpCase("scatter_nd", [random((3, 4)), array([[0, 1], [-1, 2]], "int64"), random((2,))], label="points")
    for layout in ("NCHW4c", ""):
        yield OpCase("layout_cast", [random((1, 6, 2, 3))], {"layout": layout}, label=layout)


def reduction_cases() -> Iterator[OpCase]:
    """Reductions, running sums, sorting."""
    for op in ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod"):
        for dtype in (*FLOATS, *INTEGERS):
            high = 2 if op == "reduce_prod" else 60
            yield OpCase(
                op,
                [random((3, 4, 5), dtype, -high, high)],
                {"axes": (0, 2), "keepdims": dtype == "int8"},
                TOLERANCE.get(dtype, 0),
                label=dtype,
            )
        for dtype in ("float32", "int32"):
            if op != "reduce_mean":
                yield OpCase(op, [random((3, 0, 2), dtype)], {"axes": (1,)}, label=f"empty-{dtype}")
        yield OpCase(op, [random((3, 0, 2))], {"axes": (0,)}, label="empty-result")
        yield OpCase(op, [random((3, 4))], {"axes": (0, 1), "keepdims": False}, 2e-6, label="all")
    for op in ("reduce_max", "reduce_min"):
        yield OpCase(op, [random((3, 4), "bool")], {"axes": (1,)}, label="bool")
        yield OpCase(
            op,
            [array([[1, np.nan, 3], [np.nan, 2, 1], [-np.inf, -np.inf, -np.inf], [np.inf, 1, np.inf]])],
            {"axes": (1,)},
            label="special",
        )
    for op in ("arg_max", "arg_min"):
        for dtype in ("float32", "int8", "uint64", "bfloat16"):
            for last in (False, True):
                yield OpCase(
                    op,
                    [random((4, 9), dtype, -2, 2)],
                    {"axis": 1, "select_last": last, "keepdims": last},
                    label=f"{dtype}-{last}",
                )
        yield OpCase(
            op,
            [array([[1, np.nan, 3, np.nan], [-np.inf] * 4, [2, 2, 1, 1], [np.inf] * 4])],
            {"axis": 1},
            label="special",
        )
        yield OpCase(
            op,
            [array([[1, np.nan, 3, np.nan], [-np.inf] * 4, [2, 2, 1, 1], [np.inf] * 4])],
            {"axis": 1, "select_last": True},
            label="special-last",
        )
    for op in ("cum_sum", "cum_prod"):
        for exclusive in (False, True):
            for reverse in (False, True):
                yield OpCase(
                    op,
                    [random((3, 4, 2), "float32", -2, 2)],
                    {"axis": 1, "exclusive": exclusive, "reverse": reverse},
                    2e-6,
                    label=f"{exclusive}-{reverse}",
                )
        for dtype in ("int32", "float16", "float64"):
            yield OpCase(op, [random((3, 4), dtype, -2, 2)], {"axis": 0}, TOLERANCE.get(dtype, 0), label=dtype)
        yield OpCase(op, [random((3, 1))], {"axis": 1, "exclusive": True}, label="one")
    for largest in (False, True):
        for dtype in ("float32", "int8", "uint8", "int64", "bfloat16"):
            yield OpCase(
                "top_k",
                [random((2, 13, 3), dtype, -3, 3)],
                {"k": 5, "axis": 1, "largest": largest},
                label=f"{dtype}-{largest}",
            )
        yield OpCase(
            "top_k",
            [array([3, np.nan, -np.inf, 5, 3, np.inf, np.nan, -1, 3])],
            {"k": 9, "axis": 0, "largest": largest},
            label=f"special-{largest}",
        )
        yield OpCase("top_k", [random((2, 3))], {"k": 0, "axis": 1, "largest": largest}, label=f"none-{largest}")
        yield OpCase("top_k", [random((4, 1))], {"k": 1, "axis": 1, "largest": largest}, label=f"one-{largest}")
