"""Costs of graphs, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, graph_statistics
from edgeir.ir.statistics import peak_activation_bytes
from tests.ir.test_text import fused_graph


def test_a_small_network() -> None:
    builder = Builder()
    x = builder.input("x", "float32[1, 3, 8, 8]")
    w = builder.constant(np.zeros((4, 3, 3, 3), np.float32))
    y = builder.conv(x, w, strides=(1, 1), padding=(1,) * 4, dilations=(1, 1))
    flat = builder.reshape(builder.relu(y), shape=(1, 256))
    graph = builder.outputs(
        y=builder.matmul(flat, builder.constant(np.zeros((256, 10), np.float16).astype(np.float32)))
    )
    statistics = graph_statistics(graph)
    assert statistics.nodes == 4
    assert statistics.operators == {"conv": 1, "matmul": 1, "relu": 1, "reshape": 1}
    assert statistics.parameters == 108 + 2560
    assert statistics.parameter_bytes == 4 * (108 + 2560)
    assert statistics.macs == 4 * 64 * 27 + 2560
    reads = 4 * (192 + 108 + 256 + 256 + 256 + 2560)
    writes = 4 * (256 + 256 + 256 + 10)
    assert statistics.bytes_moved == reads + writes
    assert statistics.peak_bytes == 4 * (192 + 256 + 256)
    assert [row.macs for row in statistics.per_node] == [6912, 0, 0, 2560]


def test_shared_arrays_count_once_and_unused_constants_not() -> None:
    array = np.zeros(100, np.float32)
    builder = Builder()
    x = builder.input("x", "float32[100]")
    a, b = builder.constant(array), builder.constant(array)
    builder.constant(np.zeros(7, np.float32))
    graph = builder.outputs(y=builder.add(builder.mul(x, a), b))
    counted = graph_statistics(graph).parameters
    assert counted in (100, 200)  # the second only where views of one array count by themselves
    assert graph_statistics(builder.outputs(y=builder.mul(x, a))).parameters <= counted


def test_four_bit_constants_take_half_a_byte() -> None:
    import ml_dtypes

    builder = Builder()
    graph = builder.outputs(y=builder.cast(builder.constant(np.zeros(5, ml_dtypes.int4)), dtype="int8"))
    assert graph_statistics(graph).parameter_bytes == 3


def test_peak_counts_values_until_their_last_use() -> None:
    builder = Builder()
    x = builder.input("x", "float32[10]")
    a = builder.relu(x)
    b = builder.abs(a)
    c = builder.neg(b)
    graph = builder.outputs(y=builder.add(c, a))
    # x, a, b and c are alive at once while c is computed; b is dead when the sum is.
    assert peak_activation_bytes(graph) == 4 * 40


def test_bodies_are_counted_by_their_operators() -> None:
    statistics = graph_statistics(fused_graph())
    assert statistics.operators == {"add": 1, "mul": 1, "relu": 1, "tanh": 1}
    assert statistics.nodes == 2


def test_symbolic_dimensions_are_refused() -> None:
    builder = Builder()
    graph = builder.outputs(y=builder.relu(builder.input("x", "float32[N]")))
    with pytest.raises(EdgeIRError, match="fixed shape"):
        graph_statistics(graph)
    assert graph_statistics(graph.bind({"N": 3})).nodes == 1
