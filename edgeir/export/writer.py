"""The ONNX graph under construction: nodes, initializers, names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeir.ir.dtype import dtype_name


class Writer:
    """Collects nodes and initializers under unique names.

    Args:
        reserved: names that belong to the graph's inputs and outputs.
    """

    def __init__(self, reserved: Iterable[str]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._taken = set(reserved)
        self._next: dict[str, int] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self.location = ""

    def fresh(self, stem: str) -> str:
        """A name that nothing has: `stem`, or `stem_1`, `stem_2`, …"""
        name = stem
        while name in self._taken:
            self._next[stem] = self._next.get(stem, 0) + 1
            name = f"{stem}_{self._next[stem]}"
        self._taken.add(name)
        return name

    def constant(self, array: np.ndarray, stem: str = "constant") -> str:
        """An initializer; equal arrays share one."""
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        key = (dtype_name(array.dtype), array.shape, array.tobytes())
        if key not in self._constants:
            name = self.fresh(stem)
            self.initializers.append(numpy_helper.from_array(array, name))
            self._constants[key] = name
        return self._constants[key]

    def node(self, op_type: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Adds a node with one result; returns the result's name. Attributes of None are left out."""
        return self.nodes_of(op_type, inputs, [output or self.fresh(f"{op_type.lower()}_out")], **attributes)[0]

    def nodes_of(self, op_type: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> list[str]:
        """Adds a node with the given results."""
        operands = list(inputs)
        while operands and not operands[-1]:
            operands.pop()
        given = {key: value for key, value in attributes.items() if value is not None}
        name = self.fresh(f"{self.location or op_type}")
        self.nodes.append(helper.make_node(op_type, operands, list(outputs), name=name, **given))
        return list(outputs)
