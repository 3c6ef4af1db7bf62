from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeir.ir import Builder, Graph

Run = Callable[..., Graph]
WINDOW: dict[str, Any] = {"strides": (2, 1), "dilations": (1, 1)}
SPATIAL = (0, 0, 1, 0, 0, 0, 2, 1)


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def padded_conv(padding: tuple[int, ...], mode: str = "constant", value: float | None = None) -> Graph:
    b = Builder("case")
    x = b.input("x", "float32[1, 3, 6, 6]")
    operands = [x] if value is None else [x, b.constant(np.array(value, np.float32))]
    p = b.node("pad", *operands, padding=padding, mode=mode).output
    channels = p.type.static_shape[1]
    w = np.random.default_rng(0).standard_normal((4, channels, 3, 3)).astype(np.float32)
    return b.outputs(y=b.conv(p, w, padding=(1, 0, 0, 1), **WINDOW))


@pytest.mark.parametrize("value", [None, 0.0])
def test_zero_padding_joins_the_convolution(run_passes: Run, value: float | None) -> None:
    graph = run_passes("fold-pad", padded_conv(SPATIAL, value=value))
    (node,) = graph.nodes
    assert node.attributes["padding"] == (2, 0, 2, 2)


@pytest.mark.parametrize(
    ("padding", "mode", "value"),
    [(SPATIAL, "edge", None), (SPATIAL, "constant", 1.0), ((0, 1, 1, 0, 0, 0, 2, 1), "constant", None)],
)
def test_other_padding_stays(run_passes: Run, padding: tuple[int, ...], mode: str, value: float | None) -> None:
    assert ops(run_passes("fold-pad", padded_conv(padding, mode, value))) == ["pad", "conv"]


@pytest.mark.parametrize(
    ("own", "counted", "ceil_mode", "folds"),
    [
        ((0, 0, 0, 0), False, False, True),
        ((0, 0, 0, 0), True, False, True),
        ((0, 1, 0, 0), True, False, True),
        ((0, 1, 0, 0), False, False, False),
        ((0, 0, 0, 0), False, True, False),
    ],
)
def test_average(run_passes: Run, own: tuple[int, ...], counted: bool, ceil_mode: bool, folds: bool) -> None:
    b = Builder("case")
    p = b.pad(b.input("x", "float32[1, 3, 6, 6]"), padding=SPATIAL)
    y = b.average_pool(p, kernel=(3, 3), padding=own, count_include_pad=counted, ceil_mode=ceil_mode, **WINDOW)
    graph = run_passes("fold-pad", b.outputs(y=y))
    assert ops(graph) == (["average_pool"] if folds else ["pad", "average_pool"])
