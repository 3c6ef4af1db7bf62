"""The group templates against numpy: every kind of TE graph, dtype and odd shape must come out right."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tvm
from tvm import te, tirx, topi

from edgeir.errors import EdgeIRError
from edgeir.schedules.fallback import Fallback, plain_function
from edgeir.schedules.row_fusion import schedule_plainly, schedule_stages
from edgeir.targets.target import Target
from tests.schedules.tasks import PLAIN, group_task, run

CORES = Target(name="cores", triple="x86_64-linux-gnu", cpu="x86-64-v2", vector_bits=256, cores=2)
TARGETS = pytest.mark.parametrize("target", [PLAIN, CORES], ids=lambda t: t.name)


def values(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    if dtype == "bool":
        return generator.random(shape) > 0.5
    scaled = np.asarray(generator.standard_normal(shape) * 3)
    return scaled.astype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.abs(scaled).astype(dtype)


def check(compute: Any, reference: Any, *shapes: tuple[int, ...], dtype: str = "float32", target: Target = PLAIN):
    task = group_task(compute, [(shape, dtype) for shape in shapes])
    template = Fallback()
    kernel = template.apply(task, template.default(task, target), target)
    arrays = [values(shape, dtype, seed) for seed, shape in enumerate(shapes)]
    expected = reference(*arrays)
    expected = expected if isinstance(expected, (list, tuple)) else [expected]
    results = run(kernel, task, arrays, target)
    assert len(results) == len(expected)
    tolerance = {"float16": 2e-2, "bfloat16": 1e-1}.get(dtype, 1e-5)
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_allclose(
            np.asarray(result, "float64"), np.asarray(wanted, "float64"), rtol=tolerance, atol=tolerance
        )


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def layer_norm(x: Any, scale: Any) -> Any:
    n = int(x.shape[-1])
    mean = topi.divide(topi.sum(x, axis=-1, keepdims=True), float(n))
    centred = topi.subtract(x, mean)
    variance = topi.divide(topi.sum(topi.multiply(centred, centred), axis=-1, keepdims=True), float(n))
    return topi.multiply(topi.divide(centred, topi.sqrt(topi.add(variance, 1e-5))), scale)


def layer_norm_reference(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * scale


@TARGETS
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int8", "uint8", "int32", "int64"])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 49), (2, 3, 5, 64), (0, 4), (1, 1, 1)], ids=str)
def test_elementwise_in_every_dtype_and_shape(shape, dtype, target):
    check(lambda a, b: topi.maximum(topi.add(a, b), b), lambda a, b: np.maximum(a + b, b), shape, shape, dtype=dtype,
          target=target)  # fmt: skip


@pytest.mark.parametrize("shape", [(), (5,), (3, 33), (0,)], ids=str)
def test_bool(shape):
    check(lambda a, b: topi.logical_and(a, b), np.logical_and, shape, shape, dtype="bool")


@TARGETS
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("shape", [(6, 5, 64), (3, 4, 49), (2, 70, 3), (1, 1, 1), (130, 2, 17)], ids=str)
def test_softmax(shape, axis, target):
    check(lambda x: topi.nn.softmax(x, axis=axis), lambda x: softmax(x, axis), shape, target=target)


@TARGETS
@pytest.mark.parametrize("shape", [(64, 384), (3, 7, 50), (1, 3), (5, 1)], ids=str)
def test_layer_norm(shape, target):
    check(layer_norm, layer_norm_reference, shape, shape[-1:], target=target)


@TARGETS
@pytest.mark.parametrize("reduce", ["sum", "max", "min", "prod"])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((100,), 0), ((5, 49), 1), ((300, 50), 0), ((2, 3, 7, 7), (2, 3)), ((2, 3, 4, 5), (0, 2)), ((2, 1000), 1),
     ((4, 4), (0, 1)), ((2, 3, 7, 50), (1, 3)), ((3, 197), 1), ((4, 3, 199), (0, 2)), ((1, 80, 7, 7, 16), (2, 3))],
    ids=str,
)  # fmt: skip
def test_reductions(shape, axis, reduce, target):
    if reduce == "prod" and np.prod(shape) > 300:
        pytest.skip("the product overflows")
    check(lambda x: getattr(topi, reduce)(x, axis=axis), lambda x: getattr(np, reduce)(x, axis=axis), shape,
          target=target)  # fmt: skip


@pytest.mark.parametrize("dtype", ["int32", "int64", "float64", "float16", "int8"])
def test_reduction_dtypes(dtype):
    check(lambda x: topi.max(x, axis=-1), lambda x: x.max(-1), (5, 67), dtype=dtype)


def test_reduction_with_two_results():
    check(lambda x: topi.argmax(x, axis=1), lambda x: x.argmax(1), (9, 40))


@TARGETS
@pytest.mark.parametrize("layout", ["NCHW", "NCHW4c"])
@pytest.mark.parametrize("mode", ["max", "avg"])
@pytest.mark.parametrize(("window", "stride", "padding"), [(3, 2, 1), (2, 2, 0), (3, 1, 1)])
def test_pooling(window, stride, padding, mode, layout, target):
    shape = (1, 8, 19, 21) if layout == "NCHW" else (1, 2, 19, 21, 4)

    def reference(x: np.ndarray) -> np.ndarray:
        fill = -np.inf if mode == "max" else 0.0
        pads = [(0, 0), (0, 0), (padding, padding), (padding, padding), (0, 0)][: x.ndim]
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(x, pads, constant_values=fill), (window, window), (2, 3)
        )[:, :, ::stride, ::stride]
        return windows.max((-1, -2)) if mode == "max" else windows.mean((-1, -2))

    sizes, strides, pads = [window] * 2, [stride] * 2, [padding] * 4
    check(lambda x: topi.nn.pool2d(x, sizes, strides, [1, 1], pads, mode, layout=layout, count_include_pad=True),
          reference, shape, target=target)  # fmt: skip


@TARGETS
@pytest.mark.parametrize(
    ("shape", "axes"),
    [((70, 45), (1, 0)), ((2, 40, 6, 50), (0, 2, 3, 1)), ((64, 12, 32), (1, 0, 2)), ((3, 4, 5), (2, 1, 0)),
     ((33, 2, 64), (2, 1, 0))],
    ids=str,
)  # fmt: skip
def test_transpose(shape, axes, target):
    check(lambda x: topi.transpose(x, axes), lambda x: x.transpose(axes), shape, target=target)


def test_transposed_sum_of_two_layouts():
    check(lambda a, b: topi.add(topi.transpose(a, (1, 0)), b), lambda a, b: a.T + b, (64, 40), (40, 64))


@TARGETS
def test_concatenate_pad_slice_and_gather(target):
    def compute(a: Any, b: Any) -> Any:
        joined = topi.concatenate([a, topi.nn.relu(b)], axis=1)
        return topi.nn.pad(topi.strided_slice(joined, [0, 1], [5, 9], [2, 1]), (1, 0), (0, 2), 3.0)

    def reference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        joined = np.concatenate([a, np.maximum(b, 0)], 1)
        return np.pad(joined[0:5:2, 1:9], ((1, 0), (0, 2)), constant_values=3.0)

    check(compute, reference, (6, 4), (6, 7), target=target)


def test_several_outputs_of_different_shapes():
    def compute(x: Any) -> list[Any]:
        total = topi.sum(x, axis=-1, keepdims=True)
        return [topi.divide(x, total), total, topi.exp(x)]

    check(compute, lambda x: [x / x.sum(-1, keepdims=True), x.sum(-1, keepdims=True), np.exp(x)], (5, 33))


def test_an_external_body():
    check(lambda x: topi.sort(x, axis=-1, is_ascend=1), lambda x: np.sort(x, -1), (4, 9))


def test_a_scan_stays_in_order():
    check(lambda x: topi.cumsum(x, axis=1), lambda x: np.cumsum(x, 1), (3, 20))


def test_the_chain_of_cheap_stages_does_not_grow_exponentially():
    def compute(x: Any) -> Any:
        for _ in range(24):
            x = topi.add(x, topi.multiply(x, 0.1))
        return x

    check(compute, lambda x: x * 1.1**24, (50,))


def test_a_strange_graph_falls_back_to_the_plain_loops():
    """A stage that no transformation applies to is left as it is."""

    def compute(x: Any) -> Any:
        return te.extern(
            x.shape, [x], lambda ins, outs: _reversed_copy(ins[0], outs[0]), name="reverse", dtype="float32"
        )

    check(compute, lambda x: x[::-1], (11,))


def _reversed_copy(source: Any, destination: Any) -> Any:
    from tvm.script.ir_builder import IRBuilder
    from tvm.script.ir_builder import tirx as T

    with IRBuilder() as builder, T.serial(0, 11) as i:
        T.buffer_store(destination, source[10 - i], [i])
    return builder.get()


@pytest.mark.parametrize(
    ("name", "low", "high", "bound"), [("exp", -86, 88, 4e-7), ("tanh", -12, 12, 1e-6), ("sigmoid", -80, 80, 5e-7)]
)
def test_polynomials_are_accurate(name, low, high, bound):
    x = np.linspace(low, high, 20_001).astype("float32")
    task = group_task(lambda a: getattr(topi, name)(a), [(x.shape, "float32")])
    result = run(Fallback().apply(task, {}, PLAIN), task, [x])[0]
    wide = x.astype("float64")
    expected = {"exp": np.exp, "tanh": np.tanh, "sigmoid": lambda v: 1 / (1 + np.exp(-v))}[name](wide)
    assert np.max(np.abs(result - expected) / np.maximum(np.abs(expected), 1e-30)) < bound


def test_polynomials_keep_infinities_and_nan():
    x = np.array([-np.inf, -1000, -104, 0, 89, 1000, np.inf, np.nan], "float32")
    task = group_task(topi.exp, [(x.shape, "float32")])
    result = run(Fallback().apply(task, {}, PLAIN), task, [x])[0]
    np.testing.assert_array_equal(result, np.array([0, 0, 0, 1, np.inf, np.inf, np.inf, np.nan], "float32"))


def test_the_library_is_not_called_in_a_vector_loop():
    task = group_task(lambda a: topi.multiply(a, topi.sigmoid(topi.exp(a))), [((64, 100), "float32")])
    kernel = Fallback().apply(task, {}, PLAIN)
    library = tvm.compile(tvm.IRModule({"main": kernel.func}), tvm.target.Target(PLAIN.tvm_config()))
    assert "expf" not in library.mod.inspect_source("ll")


def test_softmax_keeps_one_row_of_workspace():
    task = group_task(lambda x: topi.nn.softmax(x, axis=-1), [((64, 256), "float32")])
    assert 0 < Fallback().apply(task, {}, PLAIN).workspace_bytes < 64 * 256


def test_a_config_with_knobs_is_refused():
    task = group_task(topi.exp, [((3,), "float32")])
    with pytest.raises(EdgeIRError):
        Fallback().apply(task, {"rows": 1}, PLAIN)


@pytest.mark.parametrize("length", [48, 49, 50, 63])
def test_ragged_rows_have_no_scalar_tail(length):
    """The tail of a vectorised elementwise loop overlaps: no bounds test is left."""
    task = group_task(lambda a, b: topi.add(a, b), [((5, length), "float32"), ((length,), "float32")])
    func = schedule_stages(plain_function(task), PLAIN)
    assert "vectorized" in str(func) and "T.where" not in str(func)
    assert "vectorized" not in str(schedule_plainly(plain_function(task)))


def test_erf_is_close():
    from math import erf

    x = np.linspace(-6, 6, 5001).astype("float32")
    task = group_task(lambda a: te.compute(a.shape, lambda i: tirx.erf(a[i])), [(x.shape, "float32")])
    result = run(Fallback().apply(task, {}, PLAIN), task, [x])[0]
    np.testing.assert_allclose(result, np.vectorize(erf)(x.astype("float64")), atol=1e-6)


@TARGETS
@pytest.mark.parametrize("columns", [64, 1000, 37])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_stage_that_works_in_place_computes_nothing_twice(rows, columns, target):
    """The ragged tail of an exponential that overwrites its own input must not be computed from results."""

    def compute(x: Any) -> Any:
        return topi.nn.softmax(topi.tanh(topi.exp(x)), axis=-1)

    check(compute, lambda x: softmax(np.tanh(np.exp(x)), -1), (rows, columns), target=target)


@TARGETS
@pytest.mark.parametrize("columns", [64, 1000, 37])
def test_softmax_of_float16(columns, target):
    def compute(x: Any) -> Any:
        wide = te.compute(x.shape, lambda *i: x(*i).astype("float32"), name="decode")
        result = topi.nn.softmax(wide, axis=-1)
        return te.compute(x.shape, lambda *i: result(*i).astype("float16"), name="encode")

    task = group_task(compute, [((3, columns), "float16")])
    (x,) = [values((3, columns), "float16", 0)]
    (result,) = run(Fallback().apply(task, {}, target), task, [x], target)
    np.testing.assert_allclose(result, softmax(x.astype("float32"), -1), rtol=2e-3, atol=1e-7)


@TARGETS
@pytest.mark.parametrize(
    "shape", [(1, 64, 56, 56), (2, 3, 7, 12), (5, 4, 9, 3), (1, 8, 14, 14), (3, 2, 20, 24)], ids=str
)
def test_vectors_across_rows_are_read_in_one_piece(shape, target):
    check(lambda a, b: topi.add(a, b), lambda a, b: a + b, shape, shape, target=target)
    task = group_task(topi.add, [(shape, "float32")] * 2)
    func = Fallback().apply(task, {}, target).func
    library = tvm.compile(tvm.IRModule({"main": func}), tvm.target.Target(target.tvm_config()))
    assert "insertelement" not in library.mod.inspect_source("ll")


def test_a_schedule_that_does_not_apply_is_reported(caplog, monkeypatch):
    def refuse(*_: Any) -> Any:
        raise ValueError("refused")

    monkeypatch.setattr("edgeir.schedules.row_fusion.schedule_stages", refuse)
    check(lambda a: topi.add(a, a), lambda a: a + a, (3, 5))
    assert [r.levelname for r in caplog.records] == ["WARNING"] and "refused" in caplog.text


@TARGETS
@pytest.mark.parametrize("repeats", [2, 3, 5])
def test_repeated_elements_and_periods(repeats, target):
    def stretch(x: Any) -> Any:
        return te.compute((5, 20 * repeats), lambda i, j: x[i, tirx.floordiv(j, repeats)], name="stretch")

    def tile(x: Any) -> Any:
        return te.compute((5, 20 * repeats), lambda i, j: x[i, tirx.floormod(j, 20)], name="tile")

    check(stretch, lambda x: np.repeat(x, repeats, 1), (5, 20), target=target)
    check(tile, lambda x: np.tile(x, (1, repeats)), (5, 20), target=target)


@TARGETS
@pytest.mark.parametrize("shape", [(1, 1000), (1, 1, 64), (1, 37), (1000,)], ids=str)
def test_softmax_of_a_single_row(shape, target):
    check(lambda x: topi.nn.softmax(x, axis=-1), lambda x: softmax(x, -1), shape, target=target)
