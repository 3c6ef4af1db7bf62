"""Knobs of the group templates: every value computes the same, the default is what was chosen without knobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tvm import topi

from edgeir.errors import EdgeIRError
from edgeir.schedules.elementwise import Elementwise
from edgeir.schedules.fallback import Fallback, GroupTemplate
from edgeir.schedules.pooling import Pooling
from edgeir.schedules.reduction import Reduction
from edgeir.schedules.softmax import Softmax
from edgeir.targets.target import Target
from tests.schedules.tasks import PLAIN, group_task, run
from tests.schedules.test_fallback import softmax

CORES = Target(name="cores", triple="x86_64-linux-gnu", cpu="x86-64-v2", vector_bits=256, cores=2)
Case = tuple[GroupTemplate, Callable[..., Any], Callable[..., np.ndarray], tuple[int, ...]]


def pool(x: Any) -> Any:
    return topi.nn.pool2d(x, [3, 3], [2, 2], [1, 1], [1, 1, 1, 1], "max", layout="NCHW")


def pooled(x: np.ndarray) -> np.ndarray:
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    height, width = (x.shape[2] - 1) // 2 + 1, (x.shape[3] - 1) // 2 + 1
    windows = [padded[:, :, i : i + 2 * height : 2, j : j + 2 * width : 2] for i in range(3) for j in range(3)]
    return np.maximum.reduce([window[:, :, :height, :width] for window in windows])


CASES: dict[str, Case] = {
    "elementwise": (Elementwise(), lambda x: topi.nn.relu(x), lambda x: np.maximum(x, 0), (3, 5, 77)),
    "row sums": (Reduction(), lambda x: topi.sum(x, axis=-1), lambda x: x.sum(-1), (5, 701)),
    "column sums": (Reduction(), lambda x: topi.sum(x, axis=0), lambda x: x.sum(0), (33, 77)),
    "softmax": (Softmax(), lambda x: topi.nn.softmax(x, axis=-1), lambda x: softmax(x, -1), (7, 613)),
    "softmax of columns": (Softmax(), lambda x: topi.nn.softmax(x, axis=1), lambda x: softmax(x, 1), (3, 9, 77)),
    "pooling": (Pooling(), pool, pooled, (1, 3, 21, 33)),
}


@pytest.mark.parametrize("target", [PLAIN, CORES], ids=lambda target: target.name)
@pytest.mark.parametrize("name", CASES)
def test_every_value_of_a_knob_computes_the_same(name: str, target: Target) -> None:
    template, compute, reference, shape = CASES[name]
    task = group_task(compute, [(shape, "float32")])
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    space, default = template.space(task, target), dict(template.default(task, target))
    assert default.keys() == space.keys()
    assert ("parallel" in space) == (target.cores > 1)
    for knob, values in space.items():
        assert default[knob] in values
        for value in values:
            kernel = template.apply(task, {**default, knob: value}, target)
            (result,) = run(kernel, task, [x], target)
            np.testing.assert_allclose(result, reference(x), rtol=1e-5, atol=1e-5, err_msg=f"{knob}={value}")


@pytest.mark.parametrize("name", CASES)
def test_the_default_is_the_schedule_without_knobs(name: str) -> None:
    template, compute, _, shape = CASES[name]
    task = group_task(compute, [(shape, "float32")])
    with_knobs = template.apply(task, template.default(task, CORES), CORES)
    assert str(with_knobs.func) == str(Fallback().apply(task, {}, CORES).func)


def test_knobs_change_the_code() -> None:
    for name, knob in (
        ("row sums", "accumulators"),
        ("column sums", "result_vectors"),
        ("softmax of columns", "row_vectors"),
    ):
        template, compute, _, shape = CASES[name]
        task = group_task(compute, [(shape, "float32")])
        texts = {str(template.apply(task, {knob: value}, CORES).func) for value in template.space(task, CORES)[knob]}
        assert len(texts) > 2, knob


@pytest.mark.parametrize(("value", "expected"), [("always", True), ("never", False)])
def test_work_is_shared_as_the_knob_says(value: str, expected: bool) -> None:
    for shape in ((3, 40), (300, 4000)):
        task = group_task(lambda x: topi.nn.relu(x), [(shape, "float32")])
        assert ("T.parallel" in str(Elementwise().apply(task, {"parallel": value}, CORES).func)) == expected


@pytest.mark.parametrize("config", [{"parallel": "sometimes"}, {"accumulators": 3}, {"unknown": 1}])
def test_unknown_knobs_and_values_are_refused(config: dict[str, Any]) -> None:
    task = group_task(lambda x: topi.sum(x, axis=-1), [((5, 701), "float32")])
    with pytest.raises(EdgeIRError, match="wrong knobs"):
        Reduction().apply(task, config, CORES)


def test_one_core_has_no_choice_of_threads() -> None:
    task = group_task(lambda x: topi.nn.relu(x), [((3, 40), "float32")])
    assert Elementwise().space(task, replace(CORES, cores=1)) == {}
    assert Fallback().space(task, CORES) == {}
