"""Quantization-aware training with the passes: insert, train, lower; the integer graph is the trained one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch (extra train)")

import edgeir  # noqa: E402
import edgeir.passes  # noqa: E402  (registers the passes)
from edgeir.ir.evaluate import evaluate  # noqa: E402
from edgeir.passmanager import PassContext, Pipeline  # noqa: E402
from edgeir.targets import lookup  # noqa: E402
from edgeir.training import GraphModule  # noqa: E402

CLEAN = "canonicalize,fold-constants,common-subexpressions,dead-code"


@pytest.mark.parametrize("scheme", ["bits=8", "bits=4", "scheme=log2,bits=4"])
def test_the_lowered_graph_computes_what_was_trained(scheme: str, shared_models: Path) -> None:
    """Images and labels are random: what counts is that the two agree, also after the weights have moved."""
    rng = np.random.default_rng(0)
    images = rng.random((64, 1, 28, 28), np.float32)
    graph = edgeir.load(str(shared_models / "fmnist_cnn.onnx"), shapes={"input": images.shape})
    context = PassContext(target=lookup("x86-64-v3"), calibration=[{"input": images}])
    Pipeline(f"{CLEAN},insert-qdq,quantize-weights{{{scheme},trainable=true}}").run(graph, context)
    before = [node.op for node in graph.nodes]
    assert before.count("conv") == 2 and any("quantize" in op for op in before)

    module = GraphModule(graph, learned_scales=True)
    assert {"w1", "w2", "w3"} < set(module.trained_values)
    optimizer = torch.optim.SGD(module.parameters(), 0.01)
    labels = torch.from_numpy(rng.integers(0, 10, 64))
    for _ in range(8):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(torch.from_numpy(images))["logits"], labels).backward()
        optimizer.step()
    trained = module.to_graph()
    assert [node.op for node in trained.nodes] == before
    assert all((trained.value(name).data != graph.value(name).data).any() for name in ("w1", "w2", "w3"))

    Pipeline(f"{CLEAN},lower-qdq,{CLEAN}").run(trained, context)
    ops = [node.op for node in trained.nodes]
    assert "conv_integer" in ops and "matmul_integer" in ops and "conv" not in ops
    with torch.no_grad():
        floats = module.eval()(torch.from_numpy(images))["logits"].numpy()
    integers = evaluate(trained, {"input": images})["logits"]
    assert (floats.argmax(1) == integers.argmax(1)).mean() >= 0.98
    assert np.abs(floats - integers).mean() <= np.ptp(floats) / 255
    # The integer graph runs in torch too, exactly as by its definition.
    got = GraphModule(trained).eval()(torch.from_numpy(images))["logits"].detach().numpy()
    np.testing.assert_allclose(got, integers, rtol=1e-6, atol=1e-6)
