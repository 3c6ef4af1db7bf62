"""No kernel of a real network is left to the plain loops because its schedule does not apply."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from edgeir.frontend.onnx import load
from edgeir.lowering.task import lower_node
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext
from edgeir.schedules.select import schedule
from edgeir.targets import lookup

CASES = [
    ("mnist_cnn", {"input": (1, 1, 28, 28)}),
    ("silero_vad_16k_static", {}),
    ("ppocr_cls", {"x": (1, 3, 48, 192)}),
    ("minilm_l6_int8", dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (1, 64))),
]


@pytest.mark.parametrize("machine", ["x86-64-v3", "cortex-a72"])
@pytest.mark.parametrize(("name", "shapes"), CASES)
def test_every_kernel_has_a_schedule(
    shared_models: Path, name: str, shapes: dict[str, tuple[int, ...]], machine: str, caplog: pytest.LogCaptureFixture
) -> None:
    target = lookup(machine).with_cores(2)
    graph = load(shared_models / f"{name}.onnx", shapes)
    default_pipeline(target).run(graph, PassContext(target=target))
    tasks = {}
    for node in graph.nodes:
        if node.op != "reshape":
            task = lower_node(node, "kernel").task
            tasks.setdefault(task.key, task)
    assert tasks
    with caplog.at_level(logging.WARNING, logger="edgeir.schedules"):
        for task in tasks.values():
            schedule(task, target)
    assert not caplog.records, caplog.text
