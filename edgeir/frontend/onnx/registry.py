"""Converters of ONNX operators, by domain and name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from edgeir.errors import EdgeIRError
from edgeir.ir import Value

if TYPE_CHECKING:
    from edgeir.frontend.onnx.import_node import ImportNode

Converter: TypeAlias = "Callable[[ImportNode], Value | Sequence[Value | None]]"

_CONVERTERS: dict[tuple[str, str], Converter] = {}


def converter(*op_types: str, domain: str = "") -> Callable[[Converter], Converter]:
    """Decorator: the function converts these operators. It takes an `ImportNode` and returns its result(s)."""

    def register(function: Converter) -> Converter:
        for op_type in op_types:
            if (domain, op_type) in _CONVERTERS:
                raise EdgeIRError("a converter for this operator exists", got=f"{domain or 'ai.onnx'}.{op_type}")
            _CONVERTERS[domain, op_type] = function
        return function

    return register


def find_converter(domain: str, op_type: str) -> Converter | None:
    """The converter of an operator, if there is one."""
    return _CONVERTERS.get((domain, op_type))
