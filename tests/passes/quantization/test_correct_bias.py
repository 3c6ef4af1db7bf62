"""The mean of a layer's output is the float network's again."""

from __future__ import annotations

import numpy as np
import pytest

from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Graph
from edgeir.ir.evaluate import evaluate
from edgeir.passmanager import PassContext, Pipeline

RNG = np.random.default_rng(11)
SAMPLES = [{"x": RNG.uniform(0, 2, (2, 5, 6, 6)).astype(np.float32)} for _ in range(4)]


def _network(bias: bool, op: str) -> Graph:
    b = Builder("network")
    x = b.input("x", "float32[2, 5, 6, 6]")
    if op == "matmul":
        flat = b.reshape(x, shape=(2, 180))
        y = b.matmul(flat, RNG.standard_normal((180, 4)).astype(np.float32))
        if bias:
            y = b.add(y, RNG.standard_normal(4).astype(np.float32))
        return b.outputs(y=y)
    window = {"strides": (1, 1), "padding": (1, 1, 1, 1), "dilations": (1, 1)}
    operands = [x, RNG.standard_normal((4, 5, 3, 3)).astype(np.float32)]
    if bias:
        operands.append(RNG.standard_normal(4).astype(np.float32))
    return b.outputs(y=b.relu(b.conv(*operands, **window)), z=b.conv(*operands, **window))


def _means(graph: Graph, output: str) -> np.ndarray:
    arrays = [evaluate(graph, sample)[output].astype(np.float64) for sample in SAMPLES]
    axes = (0, 2, 3) if arrays[0].ndim == 4 else (0,)
    return np.mean([array.mean(axis=axes) for array in arrays], axis=0)


def _run(graph: Graph, text: str) -> Graph:
    changed = graph.copy()
    Pipeline(text).run(changed, PassContext(calibration=SAMPLES, keep_reproducer=False))
    changed.verify()
    return changed


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("op", ["conv", "matmul"])
@pytest.mark.parametrize("weights", ["bits=4", "bits=4,scheme=log2"])
def test_means_are_restored(bias: bool, op: str, weights: str) -> None:
    graph = _network(bias, op)
    output = "y" if op == "matmul" else "z"
    rounded = _run(graph, f"quantize-weights{{{weights}}}")
    corrected = _run(graph, f"quantize-weights{{{weights},trainable=true}},correct-bias,fold-constants")
    expected = _means(graph, output)
    before, after = np.abs(_means(rounded, output) - expected), np.abs(_means(corrected, output) - expected)
    assert before.max() > 0.01
    assert after.max() < 1e-4 * np.abs(expected).max()
    assert any(value.type.dtype in ("int4", "uint4") for value in corrected.constants)
    assert all(node.op not in ("quantize", "log_quantize") for node in corrected.nodes)


def test_data_is_needed_only_for_rounded_weights() -> None:
    graph = _network(True, "conv")
    Pipeline("correct-bias").run(graph, PassContext())
    Pipeline("quantize-weights{trainable=true}").run(graph, PassContext())
    with pytest.raises(EdgeIRError, match="no calibration data"):
        Pipeline("correct-bias").run(graph, PassContext(keep_reproducer=False))
