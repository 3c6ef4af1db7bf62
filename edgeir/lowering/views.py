"""Values in memory: their bytes, and reshapes that only view their input."""

from __future__ import annotations

import math

import numpy as np

from edgeir.ir.graph import Node, Value
from edgeir.lowering.compute.registry import physical
from edgeir.lowering.compute.storage import carrier


def is_view(node: Node) -> bool:
    """Whether a node needs no kernel: a reshape of a plain tensor that stands by itself."""
    if node.op != "reshape":
        return False
    # TVM refuses to reshape a tensor without elements.
    return not node.input(0).type.layout and not node.output.type.layout and 0 not in node.output.type.shape


def viewed(value: Value) -> Value:
    """The value whose memory a chain of reshapes views."""
    while value.producer is not None and is_view(value.producer):
        value = value.producer.input(0)
    return value


def views(value: Value) -> list[Value]:
    """A value and all values that view its memory."""
    found = [value]
    for seen in found:
        found += [user.output for user in seen.users if is_view(user)]
    return found


def value_bytes(value: Value) -> int:
    """Bytes of a value in memory.

    Raises:
        EdgeIRError: a dimension is symbolic.
    """
    return math.prod(physical(value.type)) * np.dtype(carrier(value.type.dtype)).itemsize
