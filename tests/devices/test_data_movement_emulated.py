"""Kernels that move data on an emulated ARM machine, against the reference evaluator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeir.devices import EmulatedDevice
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.task import lower_node
from edgeir.schedules.select import select
from edgeir.targets import lookup
from tests.devices.test_integer_emulated import result
from tests.schedules.movement_graphs import concatenation, depth_to_space, made, to_blocks, transposition


@pytest.mark.qemu
def test_random_graphs(emulated: EmulatedDevice, tmp_path: Path) -> None:
    target = lookup("cortex-a72").with_cores(1)
    taken = 0
    for kind in (concatenation, depth_to_space, to_blocks, transposition):
        for seed in range(2):
            # The runner holds arrays as the network's user sees them, so what is blocked would need casts around it.
            case = made(kind, seed, "float32", 4)
            if any(value.type.layout for value in (*case.graph.inputs, *case.graph.outputs)):
                continue
            expected = evaluate(case.graph, case.inputs)["y"]
            taken += select(lower_node(case.fused(target), "main").task, target).name == "data_movement"
            folder = tmp_path / f"{kind.__name__}{seed}"
            folder.mkdir()
            found = result(case.graph, case.inputs, target, emulated, folder)
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6, err_msg=folder.name)
    assert taken
