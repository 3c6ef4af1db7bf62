"""Integer depthwise convolutions and products on emulated ARM machines, with and without dot products, bit by bit."""

from __future__ import annotations

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
from tests.lowering import depthwise_networks, integer_products
from tests.lowering.integer_networks import conv_network


@pytest.mark.qemu
@pytest.mark.parametrize("cpu", ["cortex-a72", "cortex-a76"])
def test_depthwise_sums_are_exact(cpu: str, emulated: EmulatedDevice, tmp_path: Path) -> None:
    target = lookup(cpu).with_cores(1)
    for shape, changes in depthwise_networks.SHAPES.items():
        numbers = depthwise_networks.BASE | changes | {"dtype": "int8", "x_zero": -7}
        graph, inputs = conv_network(numbers, 0, 4)
        expected = evaluate(graph, inputs)["y"]
        FuseOperators().run(graph, PassContext(target=target))
        (tmp_path / shape).mkdir()
        found = result(graph, inputs, target, emulated, tmp_path / shape)
        np.testing.assert_array_equal(found, expected, err_msg=shape)


@pytest.mark.qemu
@pytest.mark.parametrize("weights", ["extreme", "symmetric"])
@pytest.mark.parametrize("cpu", ["cortex-a72", "cortex-a76"])
def test_products_are_exact(cpu: str, weights: str, emulated: EmulatedDevice, tmp_path: Path) -> None:
    target = lookup(cpu).with_cores(1)
    for shape, changes in integer_products.SHAPES.items():
        numbers = integer_products.BASE | changes | {"weights": weights, "dtype": "int8"}
        if numbers["zero"] != "runtime":
            numbers["zero"] = -128
        graph, inputs = integer_products.product_network(numbers)
        expected = evaluate(graph, inputs)["y"]
        FuseOperators().run(graph, PassContext(target=target))
        (tmp_path / shape).mkdir()
        found = result(graph, inputs, target, emulated, tmp_path / shape)
        np.testing.assert_array_equal(found, expected, err_msg=shape)
