"""Tuning runs in which the search itself meets candidates that crash, hang or compute something wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tvm

from edgeir.ir.graph import Value
from edgeir.lowering.layouts import to_logical, to_physical
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext
from edgeir.targets import lookup
from edgeir.tuning.measure import Candidate, ProcessMeasurer
from edgeir.tuning.problem import reference
from edgeir.tuning.records import RecordStore
from edgeir.tuning.tasks import KernelTask, kernel_tasks
from edgeir.tuning.tuner import Tuner
from tests.tuning.small_network import small_network
from tests.tuning.troubled_template import ERRORS, ONE_PERCENT, TEN_PERCENT, Troubled

WHERE = "tests.tuning.troubled_template"


def troubled_task(extra: str) -> KernelTask:
    """A small convolution that only the troubled template can schedule; its default is slow."""
    target = lookup("host").with_cores(1)
    graph = small_network(10, 16)
    default_pipeline(target).run(graph, PassContext(target=target))
    task = next(task for task in kernel_tasks(graph, target, (extra,)) if Troubled.name in task.spaces)
    templates = (task.template(Troubled.name),)
    spaces = {Troubled.name: task.spaces[Troubled.name]}
    return replace(task, templates=templates, spaces=spaces, default=(Troubled.name, {"number": 0}))


def error_of(task: KernelTask, template: Troubled, number: int) -> float:
    """The largest error of a configuration's results beside the reference's largest magnitude."""
    graph, lowering = task.problem.graph(), task.problem.lowering()
    inputs, expected = reference(graph)
    kernel = template.apply(lowering.task, {"number": number}, task.target)
    module = tvm.tirx.build(kernel.func, target=tvm.target.Target(task.target.tvm_config()), pipeline="s_tir")
    arrays = []
    for index, source in enumerate(lowering.sources):
        if isinstance(source, Value):
            array = to_physical(source.data if source.is_constant else inputs[source.name], source.type)
        else:
            array = source
        arrays.append(kernel.pack[index](array) if index in kernel.pack else array)
    arguments = [tvm.runtime.tensor(np.ascontiguousarray(array)) for array in arrays]
    result = tvm.runtime.empty(lowering.task.outputs[0].shape, lowering.task.outputs[0].dtype)
    module[lowering.task.name](*arguments, result)
    got, wanted = to_logical(result.numpy(), graph.outputs[0].type), expected[graph.output_names[0]]
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def run_in_trouble(template: Troubled, attribute: str, path: Path) -> None:
    """Tunes a kernel over all configurations of a template, and checks what was recorded and what won."""
    task = troubled_task(f"{WHERE}:{attribute}")
    measurer = ProcessMeasurer(extra=(f"{WHERE}:{attribute}",), run_seconds=1.5, build_seconds=2.5)
    with RecordStore(path) as store, measurer:
        tuner = Tuner([task], store, measurer, strategy="evolutionary", batch=template.count // 5)
        # More than there are: the run ends because nothing is left to try.
        tuner.run(trials=2 * template.count)
        search = tuner.progress[0].search
        assert search.exhausted
        records, stored = store.records(task.context), store.best(task.context)
    found: dict[int, set[str]] = {}
    for record in records:
        found.setdefault(int(record.config["number"]), set()).add(record.error)
    # A search gives up when random draws find nothing new, which may leave out one or the other.
    assert len(found) >= 0.98 * template.count
    # Every fault happened, and was recorded as what it is.
    faults = {number: fault for number in range(template.count) if (fault := template.fault(number))}
    assert {number: found[number] for number in faults} == {n: {ERRORS[fault]} for n, fault in faults.items()}
    assert set(faults.values()) == set(ERRORS)
    # A busy machine may keep others from finishing in time, but nothing else happens to them, and to few.
    others = [found[number] for number in found if number not in faults]
    assert set().union(*others) <= {"", "timeout"}
    assert sum("" in errors for errors in others) > 0.9 * len(others)
    # The winner is better than the default, and right.
    assert stored is not None
    assert stored.ratio < 1 and search.best_ratio < 1
    for number in {int(stored.config["number"]), int(search.best.config["number"])}:
        assert number not in faults
        assert error_of(task, template, number) < 1e-4


def test_one_candidate_in_ten_at_fault(tmp_path: Path) -> None:
    run_in_trouble(TEN_PERCENT, "TEN_PERCENT", tmp_path / "r.sqlite")


@pytest.mark.slow
def test_one_candidate_in_a_hundred_at_fault(tmp_path: Path) -> None:
    run_in_trouble(ONE_PERCENT, "ONE_PERCENT", tmp_path / "r.sqlite")


def test_a_faulty_kernel_is_the_fastest(tmp_path: Path) -> None:
    """The temptation is real: without the check of its results the wrong kernel would win."""
    task = troubled_task(f"{WHERE}:TEN_PERCENT")
    wrong = next(number for number in range(TEN_PERCENT.count) if TEN_PERCENT.fault(number) == "wrong")
    assert error_of(task, TEN_PERCENT, wrong) > 0.1
    with ProcessMeasurer(extra=(f"{WHERE}:TEN_PERCENT",)) as measurer:
        records = measurer.measure(task, [Candidate("troubled", {"number": number}) for number in (wrong, 1)])
    assert [record.error for record in records] == ["wrong", ""]
