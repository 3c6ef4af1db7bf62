"""Ranges, scales and zero points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeir.errors import EdgeIRError
from edgeir.passes.quantization.grid import Grid, affine_parameters
from edgeir.passes.quantization.observers import OBSERVERS, make_observer
from edgeir.passes.quantization.observers.entropy import divergence
from edgeir.passes.quantization.observers.histogram import BINS, Histogram
from edgeir.passes.quantization.observers.mean_squared_error import rounding_error

GRIDS = [Grid(dtype, symmetric) for dtype in ("uint8", "int8", "uint4", "int4") for symmetric in (False, True)]
FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@given(first=FLOATS, second=FLOATS)
def test_zero_is_exact_and_the_range_is_represented(grid: Grid, first: float, second: float) -> None:
    low, high = min(first, second), max(first, second)
    scale, zero = affine_parameters(low, high, grid, "float32")
    least, greatest = grid.limits
    assert np.isfinite(scale) and scale >= np.finfo(np.float32).tiny
    assert least <= int(zero) <= greatest
    step = float(scale)
    assert (least - int(zero)) * step <= min(low, 0.0) + 0.5001 * step
    assert (greatest - int(zero)) * step >= max(high, 0.0) - 0.5001 * step


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("high", [0.0, 1e-45, 1e-30, 1e30, 3.4e38])
@pytest.mark.parametrize("low", [0.0, -1e-45, -1e-30, -1e30, -3.4e38])
def test_extreme_ranges(grid: Grid, low: float, high: float) -> None:
    scale, zero = affine_parameters(low, high, grid, "float32")
    assert np.isfinite(scale) and scale >= np.finfo(np.float32).tiny
    assert np.isfinite(np.float32(1) / scale)
    if low == high == 0.0:
        assert scale == 1.0
    if low == 0.0 and not grid.dtype.startswith("int"):
        assert int(zero) == 0


def test_symmetric_signed_integers_leave_out_the_lowest() -> None:
    assert affine_parameters(-2.0, 1.0, Grid("int8", True), "float32")[0] == np.float32(2 / 127)
    assert int(affine_parameters(-2.0, 1.0, Grid("uint8", True), "float32")[1]) == 128


@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize("grid", GRIDS[:4], ids=str)
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_ranges_lie_within_what_was_seen(name: str, grid: Grid, scale: float) -> None:
    generator = np.random.default_rng(0)
    observer = make_observer(name)
    batches = [(generator.standard_normal((3, 50)) * scale).astype(np.float32) for _ in range(4)]
    for batch in batches:
        observer.update(batch)
    low, high = observer.range(grid)
    seen = np.concatenate(batches)
    assert float(seen.min()) <= low < 0.0 < high <= float(seen.max())
    if name == "min-max":
        assert (low, high) == (float(seen.min()), float(seen.max()))


@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize("constant", [0.0, 1.0, -3.5, 1e-30, -1e30])
def test_constants_are_represented(name: str, constant: float) -> None:
    observer = make_observer(name)
    observer.update(np.full((2, 3), constant, np.float32))
    grid = Grid("uint8")
    scale, zero = affine_parameters(*observer.range(grid), grid, "float32")
    code = np.clip(np.rint(np.float32(constant) / scale) + int(zero), 0, 255)
    assert float((code - int(zero)) * scale) == pytest.approx(constant, rel=0.02)


@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(name: str, bad: float) -> None:
    with pytest.raises(EdgeIRError, match="infinite or NaN"):
        make_observer(name).update(np.array([0.0, bad, 1.0], np.float32))


@pytest.mark.parametrize("name", OBSERVERS)
def test_nothing_to_observe(name: str) -> None:
    with pytest.raises(EdgeIRError, match="nothing to observe"):
        make_observer(name).update(np.zeros((0, 3), np.float32))
    with pytest.raises(EdgeIRError, match="nothing to observe"):
        make_observer(name).range(Grid("uint8"))


def test_unknown_observer() -> None:
    with pytest.raises(EdgeIRError, match="no such observer"):
        make_observer("mean")


@given(st.lists(st.lists(FLOATS, min_size=1, max_size=8), min_size=1, max_size=6))
def test_histograms_lose_no_element(batches: list[list[float]]) -> None:
    histogram = Histogram()
    for batch in batches:
        array = np.array(batch, np.float32)
        histogram.add(array, float(array.min()), float(array.max()))
    everything = np.concatenate([np.array(batch, np.float32) for batch in batches]).astype(np.float64)
    centers, counts = histogram.centers()
    assert counts.size <= BINS
    assert counts.sum() + histogram.zeros == everything.size == histogram.total
    if counts.size:
        width = histogram.width
        for center, count in zip(centers[counts > 0], counts[counts > 0], strict=True):
            inside = (everything >= center - width / 2) & (everything < center + width / 2) & (everything != 0.0)
            assert inside.sum() == count


def test_a_growing_histogram_equals_one_of_everything() -> None:
    generator = np.random.default_rng(1)
    parts = [generator.standard_normal(1000) * 10.0**power for power in (-3, 0, 3)]
    growing, whole = Histogram(), Histogram()
    for part in parts:
        growing.add(part, float(part.min()), float(part.max()))
    everything = np.concatenate(parts)
    whole.add(everything, float(everything.min()), float(everything.max()))
    assert growing.width == whole.width
    np.testing.assert_array_equal(growing.magnitudes(), whole.magnitudes())


def test_percentile_is_numpys_within_a_bin() -> None:
    values = np.random.default_rng(2).standard_normal(200_000).astype(np.float32)
    observer = make_observer("percentile")
    for part in np.array_split(values, 7):
        observer.update(part)
    low, high = observer.range(Grid("uint8"))
    width = 2 * float(values.max() - values.min()) / BINS
    assert low == pytest.approx(np.quantile(values, 1e-4), abs=2 * width)
    assert high == pytest.approx(np.quantile(values, 1 - 1e-4), abs=2 * width)


def test_moving_average_follows_its_formula() -> None:
    observer = make_observer("moving-average")
    for low, high in ((-1.0, 1.0), (-2.0, 3.0), (0.0, 10.0)):
        observer.update(np.array([low, high], np.float32))
    low, high = observer.range(Grid("uint8"))
    assert low == pytest.approx((-1.0 * 0.9 + -2.0 * 0.1) * 0.9)
    assert high == pytest.approx((1.0 * 0.9 + 3.0 * 0.1) * 0.9 + 10.0 * 0.1)


@pytest.mark.parametrize("grid", [Grid("uint8"), Grid("int4", True), Grid("uint4")], ids=str)
def test_mse_beats_the_whole_range_where_there_are_outliers(grid: Grid) -> None:
    values = np.random.default_rng(3).laplace(size=50_000).astype(np.float32)
    values[0] = 60.0
    observer = make_observer("mse")
    observer.update(values)
    wide = values.astype(np.float64)
    chosen = (rounding_error(wide, grid, *observer.range(grid)) ** 2).mean()
    whole = (rounding_error(wide, grid, float(wide.min()), float(wide.max())) ** 2).mean()
    assert chosen < whole


def test_entropy_clips_a_single_outlier() -> None:
    values = np.abs(np.random.default_rng(4).standard_normal(100_000)).astype(np.float32)
    values[0] = 100.0
    observer = make_observer("entropy")
    observer.update(values)
    _, high = observer.range(Grid("uint8"))
    assert 2.0 < high < 20.0


def test_divergence_is_zero_where_nothing_is_lost() -> None:
    counts = np.array([4, 4, 2, 2, 8, 8, 0, 0])
    assert divergence(counts, 8, 4) == pytest.approx(0.0, abs=1e-12)
    assert divergence(counts, 8, 2) > 0.0
