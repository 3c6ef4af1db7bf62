"""The pass `decompose-conv-transpose`."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeir.ir import Builder, Graph
from edgeir.ir.evaluate import evaluate
from edgeir.passes.decomposition.decompose_conv_transpose import DecomposeConvTranspose
from edgeir.passmanager import PassContext


def net(
    size: tuple[int, ...],
    w: np.ndarray,
    bias: bool,
    strides: tuple[int, ...],
    padding: tuple[int, ...],
    extra: tuple[int, ...],
    groups: int = 1,
    dilation: int = 1,
) -> Graph:
    b = Builder("net")
    shape = ", ".join(map(str, (2, w.shape[0], *size)))
    operands = [w] + ([np.arange(w.shape[1] * groups, dtype=np.float32)] if bias else [])
    y = b.conv_transpose(
        b.input("x", f"float32[{shape}]"),
        *operands,
        strides=strides,
        padding=padding,
        dilations=(dilation,) * len(size),
        output_padding=extra,
        groups=groups,
    )
    return b.outputs(y=y)


def check(graph: Graph) -> list[str]:
    x = np.random.default_rng(0).standard_normal(graph.inputs[0].type.static_shape).astype(np.float32)
    before = evaluate(graph, {"x": x})["y"]
    DecomposeConvTranspose().run(graph, PassContext())
    graph.verify()
    np.testing.assert_allclose(evaluate(graph, {"x": x})["y"], before, rtol=1e-4, atol=1e-5)
    return [node.op for node in graph.nodes]


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def test_kernel_equal_to_stride_needs_no_crop() -> None:
    ops = check(net((4, 5), weights(6, 3, 2, 2), True, (2, 2), (0,) * 4, (0, 0)))
    assert ops == ["conv", "reshape", "transpose", "reshape"]


def test_stride_one_is_a_convolution() -> None:
    assert check(net((4, 5), weights(6, 3, 3, 3), False, (1, 1), (1,) * 4, (0, 0))) == ["conv"]


def test_dilated_ones_stay() -> None:
    assert check(net((4, 5), weights(6, 3, 3, 3), False, (2, 2), (1,) * 4, (0, 0), dilation=2)) == ["conv_transpose"]


@given(st.data())
def test_any_shape(data: st.DataObject) -> None:
    rank, groups = data.draw(st.integers(1, 2)), data.draw(st.sampled_from([1, 2]))
    kernel = [data.draw(st.integers(1, 5)) for _ in range(rank)]
    strides = tuple(data.draw(st.integers(1, 3)) for _ in range(rank))
    size = tuple(data.draw(st.integers(1, 4)) for _ in range(rank))
    spans = [(n - 1) * s + k for n, s, k in zip(size, strides, kernel, strict=True)]
    begins = [data.draw(st.integers(0, min(k - 1, span - 1))) for k, span in zip(kernel, spans, strict=True)]
    ends = [
        data.draw(st.integers(0, min(k - 1, span - 1 - b))) for k, span, b in zip(kernel, spans, begins, strict=True)
    ]
    extra = tuple(data.draw(st.integers(0, s - 1)) for s in strides)
    channels = groups * data.draw(st.integers(1, 3))
    w = weights(channels, data.draw(st.integers(1, 3)), *kernel)
    check(net(size, w, data.draw(st.booleans()), strides, (*begins, *ends), extra, groups))
