"""Changes of memory layout, which leave the logical tensor as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from edgeir.errors import TypeInferenceError
from edgeir.ir.op import Attribute, Kind, Op, Pattern, register
from edgeir.ir.types import TensorType, parse_layout
from edgeir.ops.operands import present


@register
class LayoutCast(Op):
    """The same tensor stored in `layout` ("" is plain row-major); logically the identity."""

    name = "layout_cast"
    operands = ("x",)
    attributes: ClassVar = {"layout": Attribute(Kind.STR)}
    pattern = Pattern.INJECTIVE

    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> list[TensorType]:
        """`x` → the same logical type; the layout must name as many axes as it has."""
        x, layout = present(inputs, 0), attributes["layout"]
        if layout and len(parse_layout(layout)[0]) != x.rank:
            raise TypeInferenceError("layout_cast: layout and rank differ", expected=f"{x.rank} axes", got=layout)
        return [x]

    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> list[np.ndarray]:
        """The input."""
        return [present(inputs, 0)]

    def layout(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType], attributes: Mapping[str, Any]
    ) -> Sequence[str]:
        """Any layout may come in; the one in `layout` goes out."""
        return [attributes["layout"]]
