from __future__ import annotations

from pathlib import Path

import pytest

from edgeir.frontend import load
from edgeir.passes.pipelines import default_pipeline, simplification_pipeline
from edgeir.passmanager import NumericCheck, PassContext, Pipeline


def test_text_round_trip() -> None:
    for pipeline in (default_pipeline(None), simplification_pipeline(None)):
        assert Pipeline(str(pipeline)) == pipeline


@pytest.mark.parametrize("name", ["mnist_cnn", "silero_vad_16k_static", "ppocr_cls"])
def test_real_models_compute_the_same(shared_models: Path, name: str) -> None:
    graph = load(shared_models / f"{name}.onnx", None)
    symbols = set().union(*(value.type.symbols() for value in graph.inputs))
    batch = {str(value.type.shape[0]) for value in graph.inputs}
    graph = graph.bind({symbol: 1 if symbol in batch else 48 for symbol in symbols})
    before = len(graph)
    report = default_pipeline(None).run(graph, PassContext(instruments=[NumericCheck()]))
    agreement = report.passes[-1].agreement
    assert agreement is not None and agreement.relative_error < 1e-4
    assert len(graph) < before
    assert all(node.op in ("fused", "reshape") for node in graph.nodes)
