"""Where the readers of a value stop caring: beyond some number, hard-swish, clip and their like give one result.

A convolution's result that only hard-swish reads need not be represented below −3, where hard-swish is 0: what lies
there may be clipped to −3, and the range that is left is rounded in smaller steps.
"""

from __future__ import annotations

import numpy as np

from edgeir.ir import Node, Pattern, Value
from edgeir.ir.dtype import numpy_dtype
from edgeir.passes.fusion.groups import is_scalar_constant

_FINE = np.arange(-16 * 64, 16 * 64 + 1) / 64
_FAR = 2.0 ** np.arange(4.25, 16.25, 0.25)
_POINTS = np.concatenate([-_FAR[::-1], _FINE, _FAR])
_MOST_NODES = 32


def caring_range(value: Value) -> tuple[float, float]:
    """The range outside which every reader gives the same result as at its nearest end; ±∞ where there is no end.

    Only elementwise operators whose other operands are constants of one element, or are computed from the value in the
    same way, are looked through. They are evaluated at points between −2^16 and 2^16, 1/64 apart around 0.
    """
    region = _region(value)
    if region is None:
        return -np.inf, np.inf
    points = _POINTS.astype(numpy_dtype(value.type.dtype))
    found: dict[Value, np.ndarray] = {value: points}
    with np.errstate(all="ignore"):
        for node in region:
            arrays = [found[v] if v in found else v.data.reshape(()) for v in node.present_inputs]
            found[node.output] = np.asarray(node.definition.evaluate(arrays, node.attributes)[0])
    # What is read outside the region is what must not change.
    seen = [found[node.output] for node in region if _is_read_outside(node.output, region)]
    low = min((_constant_until(results) for results in seen), default=-1)
    high = min((_constant_until(results[::-1]) for results in seen), default=-1)
    return (
        float(points[low]) if low > 0 else -np.inf,
        float(points[::-1][high]) if high > 0 else np.inf,
    )


def _region(value: Value) -> dict[Node, None] | None:
    """The elementwise operators that compute from the value alone, in order; None if something else reads it."""
    region: dict[Node, None] = {}
    pending = list(value.users)
    while pending:
        node = pending.pop(0)
        if node in region or len(region) >= _MOST_NODES:
            continue
        if node.definition.pattern is not Pattern.ELEMENTWISE or len(node.outputs) != 1 or node.op == "quantize":
            continue
        if all(v is value or is_scalar_constant(v) or v.producer in region for v in node.present_inputs):
            region[node] = None
            pending += node.output.users
    if not region or value.is_output or any(node not in region for node in value.users):
        return None
    return region


def _is_read_outside(value: Value, region: dict[Node, None]) -> bool:
    return value.is_output or any(node not in region for node in value.users)


def _constant_until(results: np.ndarray) -> int:
    """The last position up to which all results equal the first one; −1 if that is not finite."""
    first = results[0].astype(np.float64)
    if not np.isfinite(first):
        return -1
    differs = np.abs(results.astype(np.float64) - first) > 1e-6 * max(1.0, abs(float(first)))
    return len(results) - 1 if not differs.any() else int(np.argmax(differs)) - 1
