"""Gradients of every differentiable operator against numerical ones, in float64."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch (extra train)")

from torch import Tensor  # noqa: E402

from edgeir.training import GraphModule  # noqa: E402
from edgeir.training.torch_ops.registry import differentiable_ops  # noqa: E402
from tests.lowering.op_case import OpCase, array, random  # noqa: E402
from tests.lowering.op_cases import all_cases  # noqa: E402
from tests.training.op_graphs import case_graph, recurrent_cases, tensors  # noqa: E402

SMALL = 40
"""Elements up to which the whole Jacobian is compared; beyond, its products with random vectors (fast mode)."""

STRAIGHT_THROUGH = {"quantize", "log_quantize"}
"""Their gradients are estimates on purpose; test_fake_quantization.py states them."""


def usable(case: OpCase) -> bool:
    """Finite float32 operands that are not empty, and no result of integers only."""
    made = [make(np.random.default_rng(0)) for make in case.inputs if make is not None]
    floats = [data for data in made if "float" in data.dtype.name]
    fits = all(data.dtype == np.float32 and np.isfinite(data).all() and data.size for data in floats)
    return bool(floats) and fits and all(data.size for data in made)


EXTRA = [
    *recurrent_cases(small=True),
    OpCase("lookup", [random((3, 5), "int4", -8, 7), random((16,))]),
    OpCase("log_dequantize", [random((3, 5), "uint4", 0, 15), random((3, 1), "float32", 0.1, 2)]),
    OpCase("dequantize", [random((3, 5), "int8", -9, 9), random((3, 1), "float32", 0.1, 2), array(1, "int8")]),
    OpCase("cast", [random((3, 5))], {"dtype": "float64"}),
    OpCase("concat", [random((2, 1)), random((2, 3))], {"axis": 1}),
    OpCase("where", [random((2, 3), "bool"), random((2, 3)), random((3,))]),
]
CASES = [case for case in [*all_cases(), *EXTRA] if case.op in differentiable_ops() and usable(case)]
GROUPS = {op: [case for case in CASES if case.op == op] for op in dict.fromkeys(case.op for case in CASES)}


def test_every_differentiable_operator_has_a_case() -> None:
    assert differentiable_ops() - STRAIGHT_THROUGH == set(GROUPS) - STRAIGHT_THROUGH


@pytest.mark.parametrize("op", [op for op in GROUPS if op not in STRAIGHT_THROUGH])
def test_gradients_are_the_numerical_ones(op: str) -> None:
    checked = 0
    for case in GROUPS[op]:
        graph, inputs = case_graph([case], floats_are_inputs=True)
        module = GraphModule(graph).double()
        given = tensors(inputs)
        names = [name for name, tensor in given.items() if tensor.is_floating_point()]
        operands = [given[name].double().requires_grad_() for name in names]

        def run(*operands: Tensor, module=module, given=given, names=names) -> tuple[Tensor, ...]:
            results = module({**given, **dict(zip(names, operands, strict=True))}).values()
            return tuple(result for result in results if result.is_floating_point() and result.requires_grad)

        if run(*operands):
            fast = sum(operand.numel() for operand in operands) > SMALL
            assert torch.autograd.gradcheck(run, operands, fast_mode=fast), case
            checked += 1
    assert checked
