"""Integer depthwise convolutions to test with, as the numbers that `integer_networks.conv_network` takes."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

BASE: dict[str, Any] = {
    "kernel": (3, 3),
    "dilations": (1, 1),
    "padding": (1, 1, 1, 1),
    "strides": (1, 1),
    "groups": 24,
    "channels": (24, 24),
    "size": (10, 14),
    "batch": 1,
    "dtype": "uint8",
    "x_zero": 131,
    "bias": True,
    "weights": "extreme",
    "epilogue": "quantize",
}
SHAPES: dict[str, dict[str, Any]] = {
    "three": {},
    "three_stride": {"strides": (2, 2), "size": (15, 13), "padding": (0, 1, 1, 1)},
    "five": {"kernel": (5, 5), "padding": (2, 2, 2, 2), "size": (9, 11), "epilogue": "residual"},
    "five_stride": {"kernel": (5, 5), "padding": (2, 2, 2, 2), "strides": (2, 2), "size": (14, 12), "batch": 2},
    "dilated": {"dilations": (2, 2), "padding": (2, 2, 2, 2), "epilogue": "none"},
    "flat": {"kernel": (1, 7), "padding": (0, 3, 0, 3), "groups": 5, "channels": (5, 5), "x_zero": 255},
}


@st.composite
def depthwise_convolutions(draw: st.DrawFn) -> dict[str, Any]:
    """Depthwise convolutions of 2 to 40 channels, kernels 1 to 5, any padding less than the kernel, any zero point."""
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    dilations = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (1, 2)]))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    channels = draw(st.integers(2, 40))
    unsigned = draw(st.booleans())
    low = 0 if unsigned else -128
    return {
        "kernel": kernel,
        "dilations": dilations,
        "padding": draw(st.tuples(*(st.integers(0, reach[axis % 2] - 1) for axis in range(4)))),
        "strides": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "groups": channels,
        "channels": (channels, channels),
        "size": tuple(draw(st.integers(r, 18)) for r in reach),
        "batch": draw(st.sampled_from([1, 1, 2])),
        "dtype": "uint8" if unsigned else "int8",
        "x_zero": draw(st.sampled_from([None, low, low + 255, low + 128])),
        "bias": draw(st.booleans()),
        "weights": draw(st.sampled_from(["extreme", "symmetric"])),
        "epilogue": draw(st.sampled_from(["none", "quantize", "residual"])),
    }
