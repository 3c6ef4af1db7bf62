"""Accesses that are written as one run stay within their arrays."""

from __future__ import annotations

import numpy as np
import pytest

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.ir import Builder
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.build import build
from edgeir.lowering.run import Runner
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext
from edgeir.targets import lookup

F = np.float32


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("shape", [(192, 1, 3, 3), (7, 5, 3), (1, 3, 5, 7), (64, 2, 9, 1)])
def test_a_loop_over_all_axes_stays_within_its_rows(shape: tuple[int, ...], cores: int) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(F) for _ in range(3)]
    b = Builder("selection")
    s, x = b.input("s", "bool[]"), b.input("x", f"float32{list(shape)}")
    graph = b.outputs(y=b.where(s, arrays[0], b.where(s, arrays[1], b.mul(x, arrays[2]))))
    target = lookup("host").with_cores(cores)
    changed = graph.copy()
    default_pipeline(target).run(changed, PassContext(target=target))
    run = Runner(changed, build(changed, target))
    for chosen in (True, False):
        inputs = {"s": np.array(chosen), "x": rng.normal(size=shape).astype(F)}
        for _ in range(3):
            np.testing.assert_array_equal(run(inputs)["y"], evaluate(graph, inputs)["y"])
