"""Integer convolutions on emulated ARM machines, with and without dot products, compared bit by bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.devices import EmulatedDevice
from edgeir.ir import Graph
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.build import build, export
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passmanager import PassContext
from edgeir.runtime import Artifact, Manifest, TensorSpec
from edgeir.targets import Target, lookup
from tests.lowering.integer_networks import BASE, SHAPES, conv_network


def result(
    graph: Graph, inputs: dict[str, np.ndarray], target: Target, device: EmulatedDevice, folder: Path
) -> np.ndarray:
    """The network's output, computed on the device."""
    specs = [
        tuple(TensorSpec(name, value.type.dtype, value.type.static_shape) for name, value in side)
        for side in (
            [(value.name, value) for value in graph.inputs],
            list(zip(graph.output_names, graph.outputs, strict=True)),
        )
    ]
    export(build(graph, target, 1), folder / "exported.so")
    zeros = [{spec.name: np.zeros(spec.shape, spec.dtype) for spec in side} for side in specs]
    manifest = Manifest("integer", specs[0], specs[1], target)
    return device.run(Artifact.write(folder / "artifact", folder / "exported.so", manifest, *zeros), inputs)["y"]


@pytest.mark.qemu
@pytest.mark.parametrize("weights", ["extreme", "symmetric", "codes"])
@pytest.mark.parametrize("cpu", ["cortex-a72", "cortex-a76"])
def test_sums_are_exact(cpu: str, weights: str, emulated: EmulatedDevice, tmp_path: Path) -> None:
    target = lookup(cpu).with_cores(1)
    for shape in ("padded", "pointwise", "first", "ragged", "groups"):
        numbers = BASE | SHAPES[shape] | {"weights": weights, "dtype": "int8", "x_zero": -7}
        graph, inputs = conv_network(numbers, 0, 4)
        expected = evaluate(graph, inputs)["y"]
        FuseOperators().run(graph, PassContext(target=target))
        folder = tmp_path / shape
        folder.mkdir()
        np.testing.assert_array_equal(result(graph, inputs, target, emulated, folder), expected, err_msg=shape)
