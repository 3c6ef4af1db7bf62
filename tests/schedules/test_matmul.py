"""Matmul templates against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import te, tirx, topi

from edgeir.errors import EdgeIRError
from edgeir.schedules.matmul_batched import MatmulBatched
from edgeir.schedules.matmul_packed import MatmulPacked
from edgeir.schedules.matmul_problem import matmul_problem
from edgeir.schedules.matmul_tile import choose_matmul_tile
from edgeir.targets.target import Target
from tests.schedules.tasks import PLAIN, matmul_task, run

WIDE = Target(name="wide", triple="x86_64-linux-gnu", cpu="x86-64-v2", vector_bits=512, vector_registers=32, cores=2)
"""The loop structure for wide vectors and two cores, in instructions that every x86-64 machine has."""


def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.standard_normal(shape).astype("float32") for shape in shapes]


def swap(array: np.ndarray, swapped: bool) -> np.ndarray:
    return np.swapaxes(array, -1, -2) if swapped else array


SHAPES = [
    ((64, 96), (96, 128)),
    ((1, 300), (300, 100)),
    ((61, 37), (37, 53)),
    ((1, 1), (1, 1)),
    ((7, 5), (5, 3)),
    ((2, 3, 17, 24), (24, 40)),
    ((5, 1, 64), (64, 33)),
    ((3, 17, 24), (3, 24, 19)),
    ((2, 3, 9, 16), (3, 16, 32)),
    ((2, 1, 9, 16), (1, 3, 16, 20)),
    ((9, 16), (4, 16, 20)),
    ((1, 4, 12, 8), (1, 1, 8, 21)),
]


@pytest.mark.parametrize("target", [PLAIN, WIDE], ids=lambda t: t.name)
@pytest.mark.parametrize("constant", [True, False], ids=["packed", "batched"])
@pytest.mark.parametrize(("a_shape", "b_shape"), SHAPES, ids=str)
def test_product_equals_numpy(a_shape, b_shape, constant, target):
    task = matmul_task(a_shape, b_shape, constant_b=constant)
    template = MatmulPacked() if constant else MatmulBatched()
    assert template.match(task, target)
    kernel = template.apply(task, template.default(task, target), target)
    a, b = arrays(a_shape, b_shape)
    np.testing.assert_allclose(run(kernel, task, [a, b], target)[0], a @ b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("constant", [True, False], ids=["packed", "batched"])
@pytest.mark.parametrize("transposes", [(True, False), (False, True), (True, True)], ids=str)
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)], ids=str)
def test_transposed_operands(batch, transposes, constant):
    a_shape = (*batch, 20, 13) if transposes[0] else (*batch, 13, 20)
    b_shape = (*batch, 35, 20) if transposes[1] else (*batch, 20, 35)
    task = matmul_task(a_shape, b_shape, transpose_a=transposes[0], transpose_b=transposes[1], constant_b=constant)
    template = MatmulPacked() if constant else MatmulBatched()
    kernel = template.apply(task, template.default(task, WIDE), WIDE)
    a, b = arrays(a_shape, b_shape)
    expected = swap(a, transposes[0]) @ swap(b, transposes[1])
    np.testing.assert_allclose(run(kernel, task, [a, b], WIDE)[0], expected, rtol=1e-4, atol=1e-4)


def gelu(x: Any) -> Any:
    return te.compute(x.shape, lambda *i: x(*i) * 0.5 * (1.0 + tirx.erf(x(*i) * 0.70710678)), name="gelu")


@pytest.mark.parametrize("constant", [True, False], ids=["packed", "batched"])
@pytest.mark.parametrize("columns", [32, 45])
def test_epilogue_runs_on_the_tile(columns, constant):
    shapes = [(2, 9, 24), (24, columns), (columns,), (2, 9, columns)]
    task = matmul_task(
        shapes[0],
        shapes[1],
        constant_b=constant,
        extra=shapes[2:],
        epilogue=lambda p, bias, residual: topi.add(gelu(topi.add(p, bias)), residual),
    )
    template = MatmulPacked() if constant else MatmulBatched()
    kernel = template.apply(task, template.default(task, PLAIN), PLAIN)
    a, b, bias, residual = values = arrays(*shapes)
    x = a.astype("float64") @ b + bias
    from math import erf

    expected = x * 0.5 * (1 + np.vectorize(erf)(x * 0.70710678)) + residual
    np.testing.assert_allclose(run(kernel, task, values)[0], expected, rtol=1e-4, atol=1e-4)
    assert "matmul_sum_local" in str(kernel.func)


def test_right_operand_computed_by_the_body():
    task = matmul_task((3, 9, 16), (21, 3, 16), transpose_b=True, prologue=lambda b: topi.transpose(b, (1, 0, 2)))
    template = MatmulBatched()
    assert not MatmulPacked().match(task, PLAIN)
    kernel = template.apply(task, template.default(task, PLAIN), PLAIN)
    a, b = arrays((3, 9, 16), (21, 3, 16))
    expected = a @ b.transpose(1, 2, 0)
    np.testing.assert_allclose(run(kernel, task, [a, b])[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 3, 6])
@pytest.mark.parametrize("vectors", [1, 2, 5])
@pytest.mark.parametrize("pack", [True, False])
def test_every_tile_gives_the_same_product(rows, vectors, pack):
    task = matmul_task((13, 20), (20, 40))
    kernel = MatmulBatched().apply(task, {"rows": rows, "vectors": vectors, "pack": pack}, PLAIN)
    a, b = arrays((13, 20), (20, 40))
    np.testing.assert_allclose(run(kernel, task, [a, b])[0], a @ b, rtol=1e-4, atol=1e-4)


def test_a_config_outside_the_space_is_refused():
    task = matmul_task((13, 20), (20, 40), constant_b=True)
    good = {"rows": 1, "vectors": 1, "prefetch": False}
    MatmulPacked().apply(task, good, PLAIN)
    for config in ({"rows": 1}, {**good, "rows": 99}, {**good, "other": 2}, {**good, "prefetch": True}):
        with pytest.raises(EdgeIRError):
            MatmulPacked().apply(task, config, PLAIN)


def test_packed_memory_is_all_the_kernel_reads():
    task = matmul_task((4, 20), (20, 41), constant_b=True)
    template = MatmulPacked()
    kernel = template.apply(task, template.default(task, PLAIN), PLAIN)
    packed = kernel.pack[1](np.ones((20, 41), "float32"))
    assert packed.sum() == 20 * 41
    assert packed.shape[0] == 1 and packed.shape[2] == 20


@pytest.mark.parametrize("target", [PLAIN, WIDE], ids=lambda t: t.name)
@pytest.mark.parametrize("rows", [1, 7, 49, 64, 197])
def test_the_tile_fits_the_registers(rows, target):
    problem = matmul_problem(matmul_task((rows, 64), (64, 384)))
    assert problem is not None
    tile = choose_matmul_tile(problem, target)
    assert tile.rows * tile.vectors + tile.vectors + 1 <= target.vector_registers
    assert tile.rows <= rows


def test_what_is_no_float_product_of_matrices_is_left_to_other_templates():
    assert matmul_problem(matmul_task((4, 5), (5, 6), dtype="float64")) is None
    assert matmul_problem(matmul_task((4, 5), (5, 6), dtype="int32")) is None


@pytest.mark.parametrize("columns", [32, 45])
@pytest.mark.parametrize("rows", [1, 9, 24])
@pytest.mark.parametrize("batch", [(), (2,)], ids=str)
def test_an_epilogue_that_is_too_large_to_inline_runs_on_the_tile(rows, columns, batch, monkeypatch, caplog):
    monkeypatch.setattr("edgeir.schedules.inlining._MAX_NODES", 12)
    shapes = [(*batch, rows, 20), (20, columns), (columns,)]

    def epilogue(p: Any, bias: Any) -> Any:
        biased = topi.add(p, bias)
        return topi.add(topi.multiply(topi.exp(biased), biased), topi.tanh(biased))

    task = matmul_task(shapes[0], shapes[1], constant_b=True, extra=shapes[2:], epilogue=epilogue)
    template = MatmulPacked()
    kernel = template.apply(task, template.default(task, WIDE), WIDE)
    a, b, bias = arrays(*shapes)
    x = a @ (b * 0.2) + bias
    result = run(kernel, task, [a, (b * 0.2).astype("float32"), bias], WIDE)[0]
    np.testing.assert_allclose(result, np.exp(x) * x + np.tanh(x), rtol=1e-3, atol=1e-3)
    assert str(kernel.func).count("sblock(") > 4 and not caplog.records, caplog.text
