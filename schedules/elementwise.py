"""Elementwise and broadcast groups: one pass over memory, in vectors."""

from __future__ import annotations

from edgeir.schedules.fallback import GroupTemplate


class Elementwise(GroupTemplate):
    """Groups in which every output element depends on one element of each input (or a broadcast one)."""

    name = "elementwise"
    anchors = frozenset({"elementwise", "cast", "quantize", "dequantize", "where", "clip", "batch_norm"})
    knobs = ("parallel",)
