"""Output types of an operator on given operands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeir.ir.op import Op
from edgeir.ir.types import TensorType
from edgeir.ir.values import Value


def infer_types(
    operator: Op,
    operands: Sequence[Value | None],
    attributes: Mapping[str, Any],
    output_layouts: Sequence[str] | None = None,
) -> list[TensorType]:
    """Output types of an operator on these operands: logical inference, then layouts.

    Args:
        operator: the operator.
        operands: its operands.
        attributes: canonical attributes.
        output_layouts: the layouts wanted, for operators that leave the choice open.

    Raises:
        EdgeIRError: the operator cannot take these types, layouts or attributes.
    """
    types = [None if value is None else value.type for value in operands]
    plain = [t.with_layout("") if t is not None and t.layout else t for t in types]
    results = list(operator.infer(plain, attributes))
    # An operator with a layout rule of its own (`fused`) may write blocked tensors from plain ones.
    standard = type(operator).layout is Op.layout
    if standard and output_layouts is None and not any(t is not None and t.layout for t in types):
        return results
    if operator.chooses_layout:
        layouts = output_layouts or [""] * len(results)
        operator.check_layouts(types, results, layouts, attributes)
    else:
        layouts = operator.layout(types, results, attributes)
    return [t.with_layout(layout) for t, layout in zip(results, layouts, strict=True)]
