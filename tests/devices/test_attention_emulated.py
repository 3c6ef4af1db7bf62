"""Attention on an emulated ARM machine against the reference evaluator."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.devices import EmulatedDevice
from edgeir.ir.evaluate import evaluate
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passmanager import PassContext
from edgeir.targets import lookup
from tests.devices.test_integer_emulated import result
from tests.lowering.attention_graphs import LAYOUTS, AttentionCase


@pytest.mark.qemu
@pytest.mark.parametrize("guard", [False, True])
def test_any_layout(guard: bool, emulated: EmulatedDevice, tmp_path: Path) -> None:
    target = lookup("cortex-a72").with_cores(1)
    for layout in LAYOUTS:
        case = AttentionCase(2, 2, 13, 37, 10, 18, "full", guard=guard, blocked=0.3)
        graph = replace(case, layout=layout).graph()
        inputs = replace(case, layout=layout).inputs(graph)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            expected = evaluate(graph, inputs)["y"]
        FuseOperators().run(graph, PassContext(target=target))
        assert len(list(graph.nodes)) == 1
        folder = tmp_path / layout.replace(" ", "_")
        folder.mkdir()
        found = result(graph, inputs, target, emulated, folder)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, err_msg=layout)
