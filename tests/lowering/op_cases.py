"""Small cases of every operator."""

from __future__ import annotations

from tests.lowering.conversion_cases import conversion_cases
from tests.lowering.elementwise_cases import elementwise_cases
from tests.lowering.integer_cases import integer_cases
from tests.lowering.network_cases import network_cases, region_cases
from tests.lowering.op_case import OpCase
from tests.lowering.recurrent_cases import recurrent_cases
from tests.lowering.tensor_cases import movement_cases, reduction_cases


def all_cases() -> list[OpCase]:
    """Every case."""
    groups = (
        elementwise_cases,
        conversion_cases,
        integer_cases,
        movement_cases,
        reduction_cases,
        network_cases,
        region_cases,
        recurrent_cases,
    )
    return [case for group in groups for case in group()]
