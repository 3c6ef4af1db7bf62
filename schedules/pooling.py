"""Pooling over windows, in plain (NCHW) and blocked (NCHWxc) layouts.

In a blocked layout the padding test is the same for all channels of a block, so it is a scalar branch in the window
loop. In a plain layout it would fall on the vector axis, so the plane is padded into a copy that stays in cache.
"""

from __future__ import annotations

from edgeir.schedules.fallback import GroupTemplate


class Pooling(GroupTemplate):
    """Maximum and average pooling."""

    name = "pooling"
    anchors = frozenset({"max_pool", "average_pool"})
    knobs = ("result_vectors", "parallel")
