"""Measurement in processes: real candidates, and candidates that crash, hang or compute something wrong."""

from __future__ import annotations

import dataclasses
import math
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext
from edgeir.targets import lookup
from edgeir.tuning.measure import Candidate, ProcessMeasurer
from edgeir.tuning.records import RecordStore
from edgeir.tuning.tasks import KernelTask, kernel_tasks
from edgeir.tuning.tuner import Tuner
from tests.tuning.faulty_template import FAULTS, SLOW
from tests.tuning.small_network import small_network

EXTRA = ("tests.tuning.faulty_template:FAULTY",)


def tasks(extra: tuple[str, ...] = (), machine: str = "host") -> list[KernelTask]:
    target = lookup(machine).with_cores(1)
    graph = small_network()
    default_pipeline(target).run(graph, PassContext(target=target))
    return kernel_tasks(graph, target, extra)


def test_a_fault_costs_one_candidate_and_the_next_one_is_measured() -> None:
    task = tasks(EXTRA)[0]
    candidates = [Candidate("faulty", {"fault": fault, "number": 1}) for fault in FAULTS]
    candidates += [Candidate("no such", {}), Candidate(task.default[0], {"tile_rows": -1}), Candidate(*task.default)]
    with ProcessMeasurer(extra=EXTRA, run_seconds=1.5, build_seconds=2.5) as measurer:
        seen = []
        records = measurer.measure(task, candidates, seen.append)
    found = dict(zip(FAULTS, [record.error for record in records], strict=False))
    assert found == {
        "none": "",
        "crash": "crash",
        "hang": "timeout",
        "wrong": "wrong",
        "crash_in_kernel": "crash",
        "hang_in_kernel": "timeout",
    }
    assert [record.error for record in records[len(FAULTS) :]] == ["invalid", "invalid", ""]
    assert {record.ratio for record in seen} == {record.ratio for record in records}
    assert all(math.isinf(record.ratio) == bool(record.error) for record in records)
    last = records[-1]
    assert last.minimum and last.median and last.yardstick
    assert 0 < last.minimum <= last.median


class CountedBuilds:
    """Counts what a measurer's builders are asked to build."""

    def __init__(self, measurer: ProcessMeasurer) -> None:
        self.configs: list[tuple[str, str]] = []
        for worker in measurer._builders:
            send = worker.send

            def counted(message: Mapping[str, Any], seconds: float, send: Any = send) -> None:
                self.configs.append(Candidate(message["template"], message["config"]).key)
                send(message, seconds)

            worker.send = counted


def test_what_was_built_is_not_built_again_for_a_second_measurement() -> None:
    task = tasks()[1]
    default = Candidate(*task.default)
    template = task.templates[-1]
    other = Candidate(template.name, template.default(task.task, task.target))
    assert other.key != default.key
    with ProcessMeasurer() as measurer:
        builds = CountedBuilds(measurer)
        records = measurer.measure(task, [default, other])
        records += measurer.measure(task, [other, default])
        scratch = Path(measurer._scratch.name)
        assert len(list(scratch.iterdir())) == 2
    assert [record.error for record in records] == [""] * 4
    assert builds.configs == [default.key, other.key]
    assert [record.config for record in records] == [dict(c.config) for c in (default, other, other, default)]


def test_a_default_that_cannot_be_built_fails_as_a_candidate_too() -> None:
    task = dataclasses.replace(tasks()[1], default=("no such", {}))
    with ProcessMeasurer() as measurer:
        builds = CountedBuilds(measurer)
        records = measurer.measure(task, [Candidate("no such", {})])
        records += measurer.measure(task, [Candidate("no such", {}), Candidate(*tasks()[1].default)])
    assert [record.error for record in records] == ["invalid", "invalid", ""]
    assert [key[0] for key in builds.configs] == ["no such", "no such", tasks()[1].default[0]]
    assert records[-1].yardstick is None


class Spoiled:
    """Makes one candidate of twenty faulty, whatever was proposed; a real run has one of a hundred."""

    def __init__(self, measurer: ProcessMeasurer) -> None:
        self._measurer = measurer
        self._random = random.Random(0)
        self.faults = 0

    def measure(self, task, candidates, on_record=None):
        changed = []
        for candidate in candidates:
            if task.task.anchor == "conv" and candidate.key != Candidate(*task.default).key:
                self.faults += 1
                if self.faults % 20 == 7:
                    fault = self._random.choice(FAULTS[1:])
                    candidate = Candidate("faulty", {"fault": fault, "number": self.faults % 100})
            changed.append(candidate)
        return self._measurer.measure(task, changed, on_record)


@pytest.mark.slow
def test_a_run_with_faulty_candidates_completes_and_none_of_them_wins(tmp_path: Path) -> None:
    spoiled_tasks = tasks(EXTRA)[:3]
    for task in spoiled_tasks:
        # The search itself does not draw them; the measurer swaps them in.
        task.spaces.pop("faulty")  # pyright: ignore[reportAttributeAccessIssue]
    with (
        RecordStore(tmp_path / "r.sqlite") as store,
        ProcessMeasurer(extra=EXTRA, run_seconds=2, build_seconds=2) as measurer,
    ):
        tuner = Tuner(spoiled_tasks, store, Spoiled(measurer))
        tuner.run(trials=60)
        assert tuner.trials >= 59
        errors = [record.error for record in store.records() if record.error]
        assert errors
        for task in spoiled_tasks:
            best = store.best(task.context)
            assert best is None or best.template != "faulty"


def test_tuning_over_rpc_on_loopback_and_a_device_that_is_gone(tmp_path: Path) -> None:
    from edgeir.commands.devices import start_server

    task = tasks()[1]
    server = start_server("127.0.0.1", 9300, "", None)
    address = f"rpc://127.0.0.1:{server.port}"
    try:
        with RecordStore(tmp_path / "r.sqlite") as store, ProcessMeasurer(device=address) as measurer:
            tuner = Tuner([task], store, measurer)
            tuner.run(trials=6)
            records = store.records(task.context)
            assert [record.error for record in records].count("") >= 5
            assert all(record.yardstick for record in records if not record.error)
    finally:
        server.terminate()
    with ProcessMeasurer(device=address, run_seconds=15) as measurer:
        records = measurer.measure(task, [Candidate(*task.default)])
    assert [record.error for record in records] == ["device"]


def test_a_device_outlives_candidates_that_crash() -> None:
    from edgeir.commands.devices import start_server

    task = tasks(EXTRA)[0]
    server = start_server("127.0.0.1", 9400, "board", None)
    faults = ("none", "crash_in_kernel", "wrong", "none")
    candidates = [Candidate("faulty", {"fault": fault, "number": i}) for i, fault in enumerate(faults)]
    try:
        with ProcessMeasurer(device=f"rpc://127.0.0.1:{server.port}/board", extra=EXTRA) as measurer:
            records = measurer.measure(task, candidates)
    finally:
        server.terminate()
    # Through RPC, a device that died and a candidate that killed its session look alike.
    assert [record.error for record in records] == ["", "device", "wrong", ""]


@contextmanager
def two_devices() -> Iterator[tuple[str, list[Any]]]:
    """A tracker's devices by name, and their servers."""
    from edgeir.commands.devices import start_server, start_tracker, tracker_rows

    running = [start_tracker("127.0.0.1", 9190)]
    place = f"127.0.0.1:{running[0].port}"
    try:
        running += [start_server("127.0.0.1", 9400 + 200 * i, "board", place) for i in range(2)]
        until = time.monotonic() + 60
        while tracker_rows(place) != [{"key": "board", "devices": 2, "free": 2, "waiting": 0}]:
            assert time.monotonic() < until, "the devices did not register"
            time.sleep(0.2)
        yield f"tracker://{place}/board", running[1:]
    finally:
        for server in running:
            server.terminate()


def process_of(server: Any) -> int:
    return server.proc._proc.pid


def session_of(server: Any) -> int | None:
    """The process of the session that a server serves; None while it serves nobody."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # Number, name in parentheses, state, the parent's number.
            if int(status.read_text().rpartition(")")[2].split()[1]) == process_of(server):
                return int(status.parent.name)
    return None


def mapped_kernels(session: int) -> set[str]:
    """The candidates that a session has loaded: their files are removed at once."""
    lines = Path(f"/proc/{session}/maps").read_text().splitlines()
    return {line.split()[-2] for line in lines if line.endswith(".so (deleted)")}


def end(server: Any) -> None:
    server.terminate()


def freeze(server: Any) -> None:
    """As a board without power: its connections stay open, and nobody answers."""
    for process in (process_of(server), session_of(server)):
        assert process is not None
        os.kill(process, signal.SIGSTOP)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("lose", [end, pytest.param(freeze, marks=pytest.mark.slow)])
def test_a_device_lost_during_a_measurement_is_replaced_by_another_of_the_tracker(lose: Callable[[Any], None]) -> None:
    task = tasks(EXTRA)[0]
    slow = Candidate("faulty", {"fault": SLOW, "number": 0})
    with two_devices() as (name, servers), ProcessMeasurer(device=name, extra=EXTRA, run_seconds=20) as measurer:
        assert not measurer.measure(task, [Candidate(*task.default)])[0].error
        (lost,) = [server for server in servers if session_of(server) is not None]
        (other,) = [server for server in servers if server is not lost]
        session = session_of(lost)
        assert session is not None
        before = mapped_kernels(session)
        with ThreadPoolExecutor() as pool:
            running = pool.submit(measurer.measure, task, [slow])
            while mapped_kernels(session) == before:
                assert not running.done()
                time.sleep(0.02)
            # The candidate is loaded there, and takes a second and more.
            assert not running.done()
            lose(lost)
            assert [record.error for record in running.result(120)] == [""]
        assert session_of(other) is not None
