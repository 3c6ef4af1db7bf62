"""Cases of the operators that networks are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.lowering.op_case import FLOATS, TOLERANCE, OpCase, array, random


def network_cases() -> Iterator[OpCase]:
    """Convolutions, pools, products, normalizations, resampling."""
    for dtype in FLOATS:
        tolerance = 4 * TOLERANCE[dtype]
        yield OpCase(
            "conv",
            [random((2, 4, 7, 6), dtype), random((6, 2, 3, 2), dtype), random((6,), dtype)],
            {"strides": (2, 1), "padding": (1, 0, 2, 1), "dilations": (1, 2), "groups": 2},
            tolerance,
            label=dtype,
        )
        yield OpCase(
            "conv_transpose",
            [random((2, 4, 5, 3), dtype), random((4, 3, 3, 2), dtype), random((6,), dtype)],
            {"strides": (2, 1), "padding": (1, 0, 0, 1), "dilations": (1, 2), "output_padding": (1, 0), "groups": 2},
            tolerance,
            label=dtype,
        )
        yield OpCase("matmul", [random((2, 3, 5), dtype), random((5, 4), dtype)], {}, tolerance, label=dtype)
        yield OpCase("softmax", [random((3, 4, 5), dtype)], {"axis": 1}, tolerance, label=dtype)
        yield OpCase("log_softmax", [random((3, 4, 5), dtype)], {"axis": 2}, tolerance, label=dtype)
        yield OpCase(
            "layer_norm",
            [random((3, 4, 5), dtype), random((4, 5), dtype), random((5,), dtype)],
            {"axis": 1, "epsilon": 1e-5},
            tolerance,
            label=dtype,
        )
        yield OpCase(
            "batch_norm",
            [random((2, 3, 4, 5), dtype), *[random((3,), dtype)] * 3, random((3,), dtype, 0.5, 2)],
            {"epsilon": 1e-5},
            tolerance,
            label=dtype,
        )
        yield OpCase(
            "max_pool",
            [random((1, 3, 7, 6), dtype)],
            {"kernel": (3, 2), "strides": (2, 2), "padding": (1, 0, 1, 0), "dilations": (1, 2)},
            label=dtype,
        )
        for include in (False, True):
            yield OpCase(
                "average_pool",
                [random((1, 3, 7, 6), dtype)],
                {
                    "kernel": (3, 2),
                    "strides": (2, 2),
                    "padding": (1, 0, 1, 1),
                    "dilations": (2, 1),
                    "ceil_mode": True,
                    "count_include_pad": include,
                },
                tolerance,
                label=f"{dtype}-{include}",
            )
        yield OpCase(
            "einsum",
            [random((2, 3, 4), dtype), random((2, 4, 5), dtype)],
            {"equation": "bij,bjk->bik"},
            tolerance,
            label=dtype,
        )
    yield OpCase(
        "conv",
        [random((1, 3, 9)), random((5, 3, 3))],
        {"strides": (1,), "padding": (1, 1), "dilations": (1,)},
        1e-5,
        label="1d",
    )
    yield OpCase(
        "conv",
        [random((1, 2, 4, 5, 6)), random((3, 2, 2, 3, 1))],
        {"strides": (1, 2, 1), "padding": (0, 1, 0, 0, 1, 0), "dilations": (1, 1, 1)},
        1e-5,
        label="3d",
    )
    yield OpCase(
        "conv",
        [random((1, 4, 5, 5)), random((4, 1, 3, 3)), random((4,))],
        {"strides": (1, 1), "padding": (1, 1, 1, 1), "dilations": (1, 1), "groups": 4},
        1e-5,
        frozenset({1, 2}),
        label="depthwise",
    )
    yield OpCase(
        "conv_transpose",
        [random((1, 2, 4)), random((2, 3, 3))],
        {"strides": (2,), "padding": (0, 0), "dilations": (1,), "output_padding": (0,)},
        1e-5,
        label="1d",
    )
    for dtype in ("int8", "uint8", "int32"):
        yield OpCase(
            "max_pool",
            [random((1, 2, 5), dtype, -50, 50)],
            {"kernel": (2,), "strides": (2,), "padding": (0, 1), "dilations": (1,), "ceil_mode": True},
            label=dtype,
        )
        yield OpCase("matmul", [random((3, 5), dtype, -50, 50), random((5, 4), dtype, -50, 50)], label=dtype)
    yield OpCase(
        "average_pool",
        [random((1, 2, 4, 4, 4))],
        {"kernel": (2, 2, 2), "strides": (2, 2, 2), "padding": (0,) * 6, "dilations": (1, 1, 1)},
        1e-6,
        label="3d",
    )
    for a in (False, True):
        for b in (False, True):
            yield OpCase(
                "matmul",
                [random((2, 1, 5, 3) if a else (2, 1, 3, 5)), random((3, 4, 5) if b else (3, 5, 4))],
                {"transpose_a": a, "transpose_b": b},
                1e-5,
                label=f"{a}-{b}",
            )
    yield OpCase("matmul", [random((3, 0)), random((0, 4))], label="empty")
    for equation, shapes in (
        ("ij->ji", [(2, 3)]),
        ("ii->i", [(3, 3)]),
        ("ij,jk", [(2, 3), (3, 4)]),
        ("...ij,...jk->...ik", [(2, 2, 3), (3, 4)]),
        ("ij->", [(3, 4)]),
        ("a,b,c->abc", [(2,), (3,), (2,)]),
    ):
        yield OpCase("einsum", [random(shape) for shape in shapes], {"equation": equation}, 1e-5, label=equation)
    yield OpCase(
        "softmax", [array([[1, np.nan, 2], [-np.inf, 0, -np.inf], [np.inf, 0, 0]])], {"axis": 1}, 1e-6, label="special"
    )
    yield OpCase("softmax", [random((0, 3))], {"axis": 0}, label="empty")
    yield OpCase("layer_norm", [random((3, 5)), random((5,))], {"axis": 1, "epsilon": 1e-5}, 1e-5, label="no-bias")
    yield OpCase(
        "layer_norm", [random((3, 5)), random((1,)), random(())], {"axis": 0, "epsilon": 1e-5}, 1e-5, label="broadcast"
    )
    yield from resampling_cases()


def resampling_cases() -> Iterator[OpCase]:
    """Resize in all modes, and grid_sample."""
    coordinates = (
        "half_pixel",
        "half_pixel_symmetric",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
        "tf_crop_and_resize",
    )
    for mode in ("nearest", "linear", "cubic"):
        for coordinate in coordinates:
            for sizes in ((1, 2, 8, 6), (1, 2, 3, 2), (1, 2, 5, 9)):
                attributes: dict[str, Any] = {
                    "sizes": sizes,
                    "mode": mode,
                    "coordinate_transformation": coordinate,
                    "extrapolation_value": 9.0,
                }
                if coordinate == "tf_crop_and_resize":
                    attributes["roi"] = (0.0, 0.0, 0.2, -0.3, 1.0, 1.0, 0.9, 1.2)
                yield OpCase(
                    "resize", [random((1, 2, 4, 3))], attributes, 4e-6, label=f"{mode}-{coordinate}-{sizes[2]}"
                )
    for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        yield OpCase(
            "resize", [random((1, 2, 4, 3))], {"sizes": (1, 2, 7, 2), "nearest_mode": rounding}, label=rounding
        )
    for mode in ("linear", "cubic"):
        yield OpCase(
            "resize",
            [random((1, 1, 9, 8))],
            {"sizes": (1, 1, 4, 3), "mode": mode, "antialias": True},
            4e-6,
            label=f"antialias-{mode}",
        )
        yield OpCase(
            "resize",
            [random((1, 1, 9, 8))],
            {"sizes": (1, 1, 14, 5), "mode": mode, "exclude_outside": True},
            4e-6,
            label=f"exclude-{mode}",
        )
        for dtype in ("uint8", "int32", "float16", "float64", "bfloat16"):
            yield OpCase(
                "resize",
                [random((1, 1, 5, 4), dtype, 0, 100)],
                {"sizes": (1, 1, 8, 3), "mode": mode},
                TOLERANCE.get(dtype, 0),
                label=f"{mode}-{dtype}",
            )
    for mode in ("nearest", "linear", "cubic"):
        for padding in ("zeros", "border", "reflection"):
            for align in (False, True):
                attributes = {"mode": mode, "padding_mode": padding, "align_corners": align}
                yield OpCase(
                    "grid_sample",
                    [random((2, 3, 5, 4)), random((2, 3, 6, 2), "float32", -1.6, 1.6)],
                    attributes,
                    1e-5,
                    label=f"{mode}-{padding}-{align}",
                )
    yield OpCase(
        "grid_sample",
        [random((1, 2, 3, 4, 5)), random((1, 2, 3, 4, 3), "float32", -1.2, 1.2)],
        {"mode": "linear"},
        1e-5,
        label="3d",
    )
    yield OpCase(
        "grid_sample",
        [random((1, 2, 3, 4), "float64"), random((1, 2, 3, 2), "float64", -1.2, 1.2)],
        {"mode": "cubic"},
        1e-6,
        label="float64",
    )


def region_cases() -> Iterator[OpCase]:
    """Deformable convolution and roi_align."""
    window = {"strides": (2, 1), "padding": (1, 0, 1, 1), "dilations": (1, 2)}
    x, w = random((2, 4, 6, 7)), random((6, 2, 3, 2))
    offset = random((2, 2 * 6 * 2, 3, 6), "float32", -2, 2)
    grouped = {**window, "groups": 2, "offset_groups": 2}
    yield OpCase("deform_conv", [x, w, offset, random((6,)), random((2, 2 * 6, 3, 6))], grouped, 1e-5, label="mask")
    yield OpCase("deform_conv", [x, w, offset], grouped, 1e-5, label="bare")
    rois = array([[0.5, 1.0, 9.0, 7.5], [-3.0, -2.0, 4.0, 5.0], [2.0, 2.0, 2.5, 2.5]])
    for mode in ("average", "max"):
        for ratio in (0, 2):
            for half in (False, True):
                attributes = {
                    "height": 3,
                    "width": 2,
                    "mode": mode,
                    "sampling_ratio": ratio,
                    "spatial_scale": 0.7,
                    "half_pixel": half,
                }
                inputs = [random((2, 3, 8, 9)), rois, array([0, 1, 1], "int64")]
                yield OpCase("roi_align", inputs, attributes, 1e-5, label=f"{mode}-{ratio}-{half}")
