"""Exporters of IR operators, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from edgeir.errors import EdgeIRError

if TYPE_CHECKING:
    from edgeir.export.export_node import ExportNode

Exporter: TypeAlias = "Callable[[ExportNode], str | Sequence[str]]"
"""Writes the ONNX nodes of one IR node; returns the names of its results."""

_EXPORTERS: dict[str, Exporter] = {}


def exporter(*ops: str) -> Callable[[Exporter], Exporter]:
    """Decorator: the function exports these operators."""

    def register(function: Exporter) -> Exporter:
        for op in ops:
            if op in _EXPORTERS:
                raise EdgeIRError("an exporter of this operator exists", got=op)
            _EXPORTERS[op] = function
        return function

    return register


def find_exporter(op: str) -> Exporter:
    """The exporter of an operator.

    Raises:
        EdgeIRError: there is none.
    """
    if op not in _EXPORTERS:
        raise EdgeIRError("operator cannot be exported to ONNX", got=op)
    return _EXPORTERS[op]


def exported_ops() -> frozenset[str]:
    """The operators that have an exporter."""
    return frozenset(_EXPORTERS)
