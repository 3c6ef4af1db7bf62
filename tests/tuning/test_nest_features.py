"""What the cost model is told of scheduled loops: against loops that are counted by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tvm import te, tirx
from tvm.s_tir import Schedule

from edgeir.schedules.tir_types import AnyFunc, AnySchedule, AnyTensor
from edgeir.targets import lookup
from edgeir.targets.target import Target
from edgeir.tuning import nest_features as nf
from edgeir.tuning.features import LOOPS, NAMES, feature_rows, knob_rows
from edgeir.tuning.loop_nest import LoopNest, loop_nest
from edgeir.tuning.tasks import KernelTask
from tests.tuning.test_search import wide_tasks

ROWS, COLUMNS, DEPTH = 96, 64, 256


def target() -> Target:
    """256-bit vectors, 16 registers, 32 KB and 256 KB of cache."""
    return replace(lookup("x86-64-v3").with_cores(1), l1_bytes=32 * 1024, l2_bytes=256 * 1024)


def product(tile_rows: int, vectors: int) -> LoopNest:
    """C[96, 64] = A[96, 256] B[256, 64] in tiles of rows x vectors of 8, the sum's loop around the tile."""
    a = te.placeholder((ROWS, DEPTH), name="a")
    b = te.placeholder((DEPTH, COLUMNS), name="b")
    k = te.reduce_axis((0, DEPTH), name="k")
    c: AnyTensor = te.compute((ROWS, COLUMNS), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="c")
    func: AnyFunc = te.create_prim_func([a, b, c]).with_attr("global_symbol", "main")
    schedule: AnySchedule = Schedule(func)
    block = schedule.get_sblock("c")
    i, j, k_loop = schedule.get_loops(block)
    i, row = schedule.split(i, [None, tile_rows])
    j, vector, lane = schedule.split(j, [None, vectors, 8])
    schedule.reorder(i, j, k_loop, row, vector, lane)
    schedule.parallel(i)
    schedule.unroll(row)
    schedule.unroll(vector)
    schedule.vectorize(lane)
    schedule.decompose_reduction(block, k_loop)
    return loop_nest(schedule.mod["main"])


def test_loops_and_footprints_of_a_product() -> None:
    nest = product(tile_rows=4, vectors=2)
    init, update = nest.statements
    assert [(loop.extent, loop.kind) for loop in update.loops] == [
        *((24, "parallel"), (4, "serial"), (256, "serial"), (4, "unrolled"), (2, "unrolled"), (8, "vectorized"))
    ]
    assert init.iterations == ROWS * COLUMNS
    assert update.iterations == ROWS * COLUMNS * DEPTH
    # The sum, the rows of A, the columns of B: a product that is added is one operation.
    assert update.arithmetic == 1 and update.calls == 0
    _, a, b = sorted((update.store, *update.loads[-2:]), key=lambda access: access.buffer)
    assert a.footprint(0) == 4 * ROWS * DEPTH and b.footprint(0) == 4 * DEPTH * COLUMNS
    # One tile's walk over the sum: four rows of A, and a line of B in each of its rows.
    assert a.footprint(2) == 4 * 4 * DEPTH and b.footprint(2) == 64 * DEPTH
    assert nf.working_set(update, 2) == a.footprint(2) + b.footprint(2) + 4 * 64


@pytest.mark.parametrize(("rows", "vectors"), [(1, 1), (4, 2), (6, 2), (3, 4)])
def test_the_register_tile_of_a_product(rows: int, vectors: int) -> None:
    step = nf.step_of(product(rows, vectors).statements[1], target())
    assert step.steps == ROWS // rows * (COLUMNS // (8 * vectors)) * DEPTH
    assert step.operations == rows * vectors
    assert step.accumulators == rows * vectors
    assert step.loads == rows + vectors
    assert step.stores == 0
    assert step.lanes == 1.0


def test_traffic_falls_with_larger_tiles_and_counts_what_misses_the_cache() -> None:
    small, large = product(1, 1).statements[1], product(6, 2).statements[1]
    cache = 32 * 1024
    assert nf.traffic(large, cache) < nf.traffic(small, cache)
    # With everything cached each byte comes once.
    arrays = 4 * (ROWS * DEPTH + DEPTH * COLUMNS + ROWS * COLUMNS)
    assert nf.traffic(small, 1 << 30) == arrays
    assert nf.fitting_depth(small, 1 << 30) == 0


def test_a_tile_beyond_the_registers_costs_spills() -> None:
    fits, spills = (nf.step_of(product(rows, 4).statements[1], target()) for rows in (2, 8))
    assert fits.cycles / fits.operations < spills.cycles / spills.operations
    assert spills.registers > target().vector_registers


def test_pieces_of_work_leave_threads_idle() -> None:
    nest = product(4, 2)
    even, ragged = (nf.nest_row(nest, target().with_cores(cores)) for cores in (8, 7))
    assert even["pieces"] == math.log2(1 + 24)
    assert even["idle"] == 1.0
    # 24 pieces on 7 threads take four rounds.
    assert ragged["idle"] == pytest.approx(4 * 7 / 24)


def test_an_index_divided_and_wrapped_spans_what_it_reaches() -> None:
    source = te.placeholder((8, 8), name="source")
    result: AnyTensor = te.compute((64,), lambda i: source[i // 8, i % 8], name="result")
    (statement,) = loop_nest(te.create_prim_func([source, result])).statements
    (load,) = statement.loads
    assert [span[0] for span in load.spans] == [8, 8]
    assert statement.store.spans == ((64, 1),)


def conv_task() -> KernelTask:
    return wide_tasks()[1]


def test_every_configuration_has_a_finite_row_and_the_default_differs_from_itself_by_nothing() -> None:
    task = conv_task()
    for template in task.templates:
        config = template.default(task.task, task.target)
        row = nf.nest_features(task, template.name, config)
        assert row.shape == (len(nf.NAMES),) and row.dtype == np.float32
        assert not np.isinf(row).any()
    row = dict(zip(nf.NAMES, nf.nest_features(task, *task.default), strict=True))
    assert all(row[f"relative_{name}"] == 0 for name in nf.RELATIVE)
    assert row["cycles"] > 0 and 0 < row["hot_share"] <= 1


def test_what_cannot_be_scheduled_is_unknown() -> None:
    task = conv_task()
    assert np.isnan(nf.nest_features(task, task.default[0], {"no such knob": 1})).all()


def test_a_kernel_is_scheduled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    task = conv_task()
    first = nf.nest_features(task, *task.default)
    monkeypatch.setattr(nf, "loop_nest", lambda func: pytest.fail("scheduled again"))
    np.testing.assert_array_equal(nf.nest_features(task, *task.default), first)


def test_rows_with_loops_continue_those_without() -> None:
    task = conv_task()
    name = task.default[0]
    space = task.spaces[name]
    knob = next(knob for knob, values in space.items() if len(values) > 2)
    candidates = [(name, {**task.default[1], knob: value}) for value in space[knob]]
    short, long = knob_rows(task, candidates), feature_rows(task, candidates, nests=2)
    assert short.shape == (len(candidates), len(NAMES))
    assert long.shape == (len(candidates), len(NAMES) + len(LOOPS))
    np.testing.assert_array_equal(long[:, : len(NAMES)], short)
    described = [not np.isnan(row[len(NAMES) :]).all() for row in long]
    assert described == [True, *[False] * (len(candidates) - 2), True]


def test_loops_of_tiny_functions_do_not_fail() -> None:
    nest = loop_nest(tirx.PrimFunc([], tirx.Evaluate(tirx.IntImm("int32", 0))))
    assert nest.statements == [] and nf.nest_row(nest, target()) == {}
