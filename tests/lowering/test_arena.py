"""Offsets in the arena: values that live at the same time never share a byte."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeir.lowering.arena import Interval, live_bytes, plan_arena

_INTERVALS = st.lists(
    st.builds(
        lambda size, first, length: Interval(64 * size, first, first + length),
        st.integers(1, 20),
        st.integers(0, 12),
        st.integers(0, 6),
    ),
    max_size=14,
)


@given(_INTERVALS)
def test_intervals_that_meet_do_not_overlap(intervals: list[Interval]) -> None:
    plan = plan_arena(intervals)
    assert plan.lower_bound <= plan.size <= sum(item.size for item in intervals)
    for i, a in enumerate(intervals):
        assert plan.offsets[i] % 64 == 0
        assert plan.offsets[i] + a.size <= plan.size
        for j, b in enumerate(intervals[:i]):
            apart = plan.offsets[i] + a.size <= plan.offsets[j] or plan.offsets[j] + b.size <= plan.offsets[i]
            assert apart or not a.meets(b)


def test_a_chain_needs_the_largest_pair() -> None:
    sizes = [640, 128, 320, 64, 512]
    plan = plan_arena([Interval(size, step, step + 1) for step, size in enumerate(sizes)])
    assert plan.size == plan.lower_bound == 640 + 128


def test_a_gap_is_filled() -> None:
    # A dies before D comes, which fits into A's place beside B and C.
    intervals = [Interval(128, 0, 1), Interval(64, 0, 3), Interval(64, 1, 3), Interval(128, 2, 3)]
    plan = plan_arena(intervals)
    assert plan.size == live_bytes(intervals) == 256


def test_nothing_takes_nothing() -> None:
    assert plan_arena([]).size == 0
