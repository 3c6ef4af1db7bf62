"""Kernels of a model as tasks, and as text that any process can build them from."""

from __future__ import annotations

import numpy as np
import pytest

from edgeir.errors import EdgeIRError
from edgeir.frontend import load
from edgeir.ir import Graph
from edgeir.lowering.module import plan
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext
from edgeir.schedules.select import matching, select
from edgeir.targets import Target, lookup
from edgeir.tuning.problem import Problem, disagreement, reference
from edgeir.tuning.tasks import kernel_tasks
from tests.tuning.small_network import small_network


def optimized(graph: Graph, target: Target) -> Graph:
    copied = graph.copy()
    default_pipeline(target).run(copied, PassContext(target=target))
    return copied


def test_kernels_are_counted_and_read_back_from_their_text() -> None:
    target = lookup("host").with_cores(1)
    graph = optimized(small_network(), target)
    tasks = kernel_tasks(graph, target)
    keys = [step.key for step in plan(graph) if step.lowering is not None]
    assert [task.count for task in tasks] == [keys.count(key) for key in dict.fromkeys(keys)]
    assert max(task.count for task in tasks) == 2
    for task in tasks:
        again = Problem.from_text(task.problem.to_text())
        assert again.lowering().task.key == task.task.key
        assert task.context.kernel == task.task.key
        assert task.size >= 1


def test_every_matching_template_is_offered_with_its_space() -> None:
    target = lookup("x86-64-v3").with_cores(1)
    for task in kernel_tasks(optimized(small_network(), target), target):
        assert task.templates[0].name == select(task.task, target).name == task.default[0]
        assert set(task.spaces) == {template.name for template in task.templates}
        assert set(task.spaces) <= {template.name for template in matching(task.task, target)}
        if task.task.anchor == "conv":
            assert len(task.templates) > 1


@pytest.mark.parametrize("name", ["efficientnet_lite0", "minilm_l6_int8", "silero_vad_16k_static", "ppocr_cls"])
def test_kernels_of_real_models_read_back_from_their_text(name: str, shared_models) -> None:
    shapes = {
        "minilm_l6_int8": {"input_ids": (1, 8), "attention_mask": (1, 8), "token_type_ids": (1, 8)},
        "ppocr_cls": {"x": (1, 3, 48, 192)},
        "efficientnet_lite0": {"input": (1, 3, 224, 224)},
    }
    target = lookup("x86-64-v3").with_cores(1)
    # `kernel_tasks` itself refuses a kernel whose text gives another computation.
    assert kernel_tasks(optimized(load(shared_models / f"{name}.onnx", shapes.get(name)), target), target)


def test_damaged_text_is_refused() -> None:
    for text in ("", "[]", '{"text": 1, "constants": []}', '{"text": "graph", "constants": [1]}'):
        with pytest.raises(EdgeIRError, match="not the text of a kernel"):
            Problem.from_text(text)
    with pytest.raises(EdgeIRError, match="not IR text"):
        Problem("graph", ()).graph()


def test_wrong_results_are_told_from_rounding() -> None:
    target = lookup("host").with_cores(1)
    task = kernel_tasks(optimized(small_network(), target), target)[0]
    _, expected = reference(task.problem.graph())
    assert disagreement(expected, expected) == ""
    assert disagreement({k: v * np.float32(1 + 1e-6) for k, v in expected.items()}, expected) == ""
    assert "error" in disagreement({k: v + np.float32(0.1) for k, v in expected.items()}, expected)
    spoiled = {k: v.copy() for k, v in expected.items()}
    next(iter(spoiled.values())).flat[3] = np.nan
    assert "nan" in disagreement(spoiled, expected)
