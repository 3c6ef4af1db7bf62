from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeir.ir import Builder, Graph, symbol

Run = Callable[..., Graph]


def test_constant_chains_become_constants(run_passes: Run) -> None:
    b = Builder("case")
    x = b.input("x", "float32[4]")
    c = b.constant(np.arange(4, dtype=np.float32), "c")
    graph = run_passes("fold-constants", b.outputs(y=b.add(x, b.sqrt(b.exp(c)))))
    assert [node.op for node in graph.nodes] == ["add"]
    np.testing.assert_allclose(graph.constants[0].data, np.exp(np.arange(4) / 2), rtol=1e-6)


def test_known_dims_and_short_iota_fold_and_symbolic_dims_stay(run_passes: Run) -> None:
    b = Builder("case")
    x = b.input("x", "int64[N]")
    known = b.add(b.node("dims", values=(3, 4)).output, b.node("iota", size=2, dtype="int64").output)
    unknown = b.node("dims", values=(symbol("N"), 4)).output
    graph = run_passes("fold-constants", b.outputs(a=known, b=unknown, c=x))
    assert [node.op for node in graph.nodes] == ["dims"]
    np.testing.assert_array_equal(graph.outputs[0].data, [3, 5])


def test_large_growth_stays(run_passes: Run) -> None:
    def graph() -> Graph:
        b = Builder("case")
        b.input("x", "float32[1]")
        return b.outputs(y=b.expand(np.ones((1, 1), np.float32), shape=(8, 16)))

    assert len(run_passes("fold-constants{max-bytes=100}", graph())) == 1
    assert len(run_passes("fold-constants{max-bytes=512}", graph())) == 0


def test_weights_are_widened_whatever_their_size(run_passes: Run) -> None:
    b = Builder("case")
    b.input("x", "float32[1]")
    graph = b.outputs(y=b.cast(np.ones((8, 16), np.int8), dtype="float32"))
    assert len(run_passes("fold-constants{max-bytes=1}", graph)) == 0


def test_dequantize_stays_unless_asked(run_passes: Run) -> None:
    def graph() -> Graph:
        b = Builder("case")
        b.input("x", "float32[1]")
        return b.outputs(y=b.dequantize(np.arange(4, dtype=np.int8), np.array(0.5, np.float32)))

    assert len(run_passes("fold-constants", graph())) == 1
    assert len(run_passes("fold-constants{dequantize=true}", graph())) == 0


def test_large_compressed_constants_stay_compressed(run_passes: Run) -> None:
    def graph(rows: int, dtype: str) -> Graph:
        b = Builder("case")
        b.input("x", "float32[1]")
        return b.outputs(y=b.cast(np.ones((rows, 64), np.int8), dtype=dtype))

    assert len(run_passes("fold-constants", graph(17, "float32"))) == 1
    assert len(run_passes("fold-constants", graph(16, "float32"))) == 0
    assert len(run_passes("fold-constants", graph(17, "uint8"))) == 0
    assert len(run_passes("fold-constants{max-decoded=2000}", graph(17, "float32"))) == 0
    assert len(run_passes("fold-constants{dequantize=true}", graph(17, "float32"))) == 0


def test_biases_of_32_bits_are_dequantized(run_passes: Run) -> None:
    b = Builder("case")
    b.input("x", "float32[1]")
    graph = run_passes("fold-constants", b.outputs(y=b.dequantize(np.arange(4, dtype=np.int32), np.float32(0.5))))
    np.testing.assert_array_equal(graph.outputs[0].data, [0, 0.5, 1, 1.5])
