"""The cases of tests/lowering on an emulated device: one of each operator, and (slow) all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.devices import EmulatedDevice
from edgeir.ir import Graph, Value
from edgeir.ir.dtype import numpy_dtype
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.build import build, export
from edgeir.lowering.layouts import to_logical, to_physical
from edgeir.runtime import Artifact, Manifest, TensorSpec
from edgeir.targets import Target, lookup
from tests.lowering.op_case import OpCase
from tests.lowering.plain_schedule import plain
from tests.lowering.test_compute import GROUPS, add_case

TARGET = lookup("cortex-a72")
# Of a result's range; the limit for every model and operator.
TOLERANCE = 1e-4
BATCH = 13


def _artifact(graph: Graph, target: Target, folder: Path) -> Artifact:
    """Physical arrays in and out, named by position, so that layouts and element types of the IR's own can cross."""
    specs = []
    for values in (graph.inputs, graph.outputs):
        kinds = [
            to_physical(np.zeros(value.type.static_shape, numpy_dtype(value.type.dtype)), value.type)
            for value in values
        ]
        specs.append(tuple(TensorSpec(f"t{i}", kind.dtype.name, kind.shape) for i, kind in enumerate(kinds)))
    export(build(graph, target, 1, plain), folder / "exported.so")
    zeros = [{spec.name: np.zeros(spec.shape, spec.dtype) for spec in side} for side in specs]
    return Artifact.write(
        folder / "artifact", folder / "exported.so", Manifest("ops", specs[0], specs[1], target), *zeros
    )


def _problems(cases: Sequence[OpCase], device: EmulatedDevice, folder: Path) -> list[str]:
    """What differs by more than the case's own tolerance, or 1e-4 of the range where that is more."""
    graph = Graph("ops")
    inputs: dict[str, np.ndarray] = {}
    outputs: list[tuple[str, Value]] = []
    for number, case in enumerate(cases):
        add_case(graph, inputs, case, number, outputs)
    graph.set_outputs(outputs)
    arrays = [to_physical(inputs[value.name], value.type) for value in graph.inputs]
    artifact = _artifact(graph, TARGET, folder)
    results = device.run(artifact, {f"t{i}": array for i, array in enumerate(arrays)})
    expected = evaluate(graph, inputs)
    problems = []
    for index, (name, value) in enumerate(zip(graph.output_names, graph.outputs, strict=True)):
        case = cases[int(name.split()[0])]
        got = to_logical(results[f"t{index}"], value.type)
        if not _agree(got, expected[name], case.tolerance):
            problems.append(f"{name}: {got.ravel()[:8]} instead of {expected[name].ravel()[:8]}")
    return problems


def _agree(got: np.ndarray, expected: np.ndarray, tolerance: float) -> bool:
    if got.dtype != expected.dtype or got.shape != expected.shape:
        return False
    if expected.dtype.kind in "iub" or tolerance == 0:
        wide = [a if a.dtype.kind in "iub" else a.astype(np.float64) for a in (got, expected)]
        return bool(np.array_equal(*wide, equal_nan=wide[0].dtype.kind == "f"))
    left, right = got.astype(np.float64), expected.astype(np.float64)
    finite = right[np.isfinite(right)]
    span = max(float(finite.max() - finite.min()), float(np.abs(finite).max())) if finite.size else 0.0
    return np.allclose(left, right, rtol=0, atol=max(tolerance, TOLERANCE) * (span or 1.0), equal_nan=True)


FIRST = [cases[0] for cases in GROUPS.values()]


@pytest.mark.qemu
@pytest.mark.parametrize("start", range(0, len(FIRST), BATCH))
def test_one_case_of_each_operator(start: int, emulated: EmulatedDevice, tmp_path: Path) -> None:
    problems = _problems(FIRST[start : start + BATCH], emulated, tmp_path)
    assert not problems, "\n".join(problems)


@pytest.mark.qemu
@pytest.mark.slow
@pytest.mark.parametrize("op", GROUPS)
def test_every_case_of_an_operator(op: str, emulated: EmulatedDevice, tmp_path: Path) -> None:
    problems = _problems(GROUPS[op], emulated, tmp_path)
    assert not problems, "\n".join(problems)
