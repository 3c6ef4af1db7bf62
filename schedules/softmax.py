"""Softmax, its logarithm and layer normalization: all stages of a row run while the row is in the first-level cache."""

from __future__ import annotations

from edgeir.schedules.fallback import GroupTemplate


class Softmax(GroupTemplate):
    """Reductions whose result is read again by every element of the same row."""

    name = "softmax"
    anchors = frozenset({"softmax", "log_softmax", "layer_norm"})
    knobs = ("accumulators", "row_vectors", "parallel")
