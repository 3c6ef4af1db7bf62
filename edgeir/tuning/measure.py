"""Measuring candidates: a pool of processes that build, and one that runs. What goes wrong costs one candidate."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Any, Protocol

from edgeir.schedules.template import Config
from edgeir.tuning.devices import LOCAL, has_free_device
from edgeir.tuning.record import Record, config_text
from edgeir.tuning.scratch import ScratchFolder
from edgeir.tuning.tasks import KernelTask
from edgeir.tuning.worker_process import WorkerProcess

BUILD_SECONDS = 20.0
RUN_SECONDS = 8.0
REMOTE_SECONDS = 60.0
DEVICE_ATTEMPTS = 3
DEFAULT_ATTEMPTS = 3
"""Builds of a default that ran out of time or died, as on a busy machine; one in each batch."""

KEPT = 12
"""Candidates whose libraries are kept after they ran: the best of a batch is measured again at once."""


@dataclass(frozen=True)
class Candidate:
    """A template and a configuration of it."""

    template: str
    config: Config = field(hash=False)

    @property
    def key(self) -> tuple[str, str]:
        """Equal candidates have equal keys."""
        return self.template, config_text(self.config)


Observer = Callable[[Record], None]
"""Told of each measurement as soon as it is there."""


class Measurer(Protocol):
    """Measures candidates of a task."""

    def measure(
        self, task: KernelTask, candidates: Sequence[Candidate], on_record: Observer | None = None
    ) -> list[Record]:
        """One record for each candidate, in order; `on_record` sees each as soon as it is there."""
        ...


@dataclass
class _Job:
    """A candidate on its way: built, then run. The default, which serves as yardstick, has no place in the results.

    Attributes:
        index: the place in the results.
        candidate: what to measure.
        folder: of its library; None for the yardstick's.
        attempts: runs so far.
    """

    index: int | None
    candidate: Candidate
    folder: str | None
    attempts: int = 0


class ProcessMeasurer:
    """Builds in processes of their own and runs in another. A context manager.

    Args:
        threads: threads that kernels use.
        builders: processes that build; as many as there are cores beside those that kernels run on, if None.
        device: as `parse_device` reads it.
        runners: processes that run; more than one only for several devices behind a tracker.
        extra: further templates, `module:attribute`.
        run_seconds, build_seconds: time limits.
    """

    def __init__(
        self,
        threads: int = 1,
        builders: int | None = None,
        device: str = LOCAL,
        runners: int = 1,
        extra: Sequence[str] = (),
        run_seconds: float | None = None,
        build_seconds: float = BUILD_SECONDS,
    ) -> None:
        local = device == LOCAL
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        timed = cores[-threads:] if local else []
        others = [core for core in cores if core not in timed] or cores
        count = builders or max(1, len(others) if others != cores else 1)
        self._device, self._extra = device, tuple(extra)
        self._build_seconds = build_seconds
        self._run_seconds = run_seconds or (RUN_SECONDS if local else REMOTE_SECONDS)
        self._scratch = ScratchFolder()
        single = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        build_threads = {**single, "TVM_NUM_THREADS": "1", "TVM_BIND_THREADS": "0"}
        run_threads = {**single, "TVM_NUM_THREADS": str(threads), "TVM_BIND_THREADS": "0"}
        self._builders = [WorkerProcess("build", build_threads, others) for _ in range(count)]
        self._runners = [WorkerProcess("run", run_threads, timed) for _ in range(1 if local else runners)]
        self._defaults: dict[str, str | None] = {}
        self._unlucky: Counter[str] = Counter()
        self._kept: OrderedDict[tuple[str, tuple[str, str]], str] = OrderedDict()
        self._made = 0

    def __enter__(self) -> ProcessMeasurer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes and removes what they wrote."""
        for worker in (*self._builders, *self._runners):
            worker.stop()
        self._scratch.cleanup()

    def _job(self, index: int | None, candidate: Candidate) -> _Job:
        """One that is to be built."""
        self._made += 1
        return _Job(index, candidate, os.path.join(self._scratch.name, str(self._made)))

    def _jobs(self, task: KernelTask, candidates: Sequence[Candidate]) -> tuple[deque[_Job], deque[_Job]]:
        """What is to be built, and what needs only to be run."""
        to_build: deque[_Job] = deque()
        to_run: deque[_Job] = deque()
        default, kernel = Candidate(*task.default), task.context.hash
        if kernel not in self._defaults:
            to_build.append(self._job(None, default))
        for index, candidate in enumerate(candidates):
            kept = self._kept.pop((kernel, candidate.key), None)
            if kept is not None:
                to_run.append(_Job(index, candidate, kept))
            elif candidate.key == default.key and self._defaults.get(kernel, "to be built") is not None:
                to_run.append(_Job(index, candidate, None))
            else:
                to_build.append(self._job(index, candidate))
        return to_build, to_run

    def measure(
        self, task: KernelTask, candidates: Sequence[Candidate], on_record: Observer | None = None
    ) -> list[Record]:
        """One record for each candidate, in order; failures are records too. See `Measurer.measure`."""
        batch = _Batch(task, len(candidates), on_record)
        to_build, to_run = self._jobs(task, candidates)
        at_work: dict[WorkerProcess, _Job] = {}
        while to_build or to_run or at_work:
            self._assign(batch, to_build, to_run, at_work)
            limit = min((worker.deadline for worker in at_work), default=0.0)
            ready = wait([worker.connection for worker in at_work], max(0.0, limit - time.monotonic()))
            for worker in list(at_work):
                if worker.connection in ready:
                    answer = worker.receive()
                elif time.monotonic() > worker.deadline:
                    answer = {"error": "timeout", "detail": f"no answer from the {worker.role} process in time"}
                    worker.restart()
                else:
                    continue
                if answer is None:
                    answer = {"error": "crash", "detail": f"the {worker.role} process died"}
                    worker.restart()
                self._finish(batch, worker, at_work.pop(worker), answer, to_run)
        kernel = task.context.hash
        if self._defaults[kernel] is None and 0 < self._unlucky[kernel] < DEFAULT_ATTEMPTS:
            del self._defaults[kernel]
        return [record for record in batch.records if record is not None]

    def _assign(
        self, batch: _Batch, to_build: deque[_Job], to_run: deque[_Job], at_work: dict[WorkerProcess, _Job]
    ) -> None:
        """Gives work to processes that have none."""
        task = batch.task
        for worker in self._builders:
            if to_build and not worker.busy:
                job = at_work[worker] = to_build.popleft()
                message = {
                    "problem": task.problem.to_text(),
                    "target": task.target.to_dict(),
                    "template": job.candidate.template,
                    "config": dict(job.candidate.config),
                    "extra": self._extra,
                    "folder": job.folder,
                }
                worker.send(message, self._build_seconds)
        for worker in self._runners:
            # Candidates wait for the default, which they are compared with.
            if to_run and not worker.busy and task.context.hash in self._defaults:
                job = at_work[worker] = to_run.popleft()
                job.attempts += 1
                message = {
                    "problem": task.problem.to_text(),
                    "folder": job.folder or self._defaults[task.context.hash],
                    "yardstick": self._defaults[task.context.hash],
                    "others": task.others,
                    "device": self._device,
                    "threads": task.target.cores,
                    "seconds": self._run_seconds,
                }
                worker.send(message, self._run_seconds)

    def _finish(
        self, batch: _Batch, worker: WorkerProcess, job: _Job, answer: dict[str, Any], to_run: deque[_Job]
    ) -> None:
        """Takes a worker's answer."""
        built = worker.role == "build"
        kernel = batch.task.context.hash
        if job.index is None:
            self._defaults[kernel] = None if answer["error"] else job.folder
            self._unlucky[kernel] += answer["error"] in ("timeout", "crash")
            if answer["error"]:
                for other in [other for other in to_run if other.folder is None]:
                    to_run.remove(other)
                    batch.store(other, answer)
            return
        if built and not answer["error"]:
            to_run.append(job)
            return
        if not built and self._is_worth_another_device(job, answer["error"]):
            to_run.append(job)
            return
        if job.folder is not None:
            self._keep(kernel, job.candidate, job.folder, answer["error"])
        batch.store(job, answer)

    def _keep(self, kernel: str, candidate: Candidate, folder: str, error: str) -> None:
        """Keeps what was built, for a while, if it works."""
        key = kernel, candidate.key
        if error or key in self._kept:
            shutil.rmtree(folder, ignore_errors=True)
            return
        self._kept[key] = folder
        while len(self._kept) > KEPT:
            shutil.rmtree(self._kept.popitem(last=False)[1], ignore_errors=True)

    def _is_worth_another_device(self, job: _Job, error: str) -> bool:
        """Whether a failure may be the device's: it may be gone, and a tracker hands out another one."""
        if error == "device":
            return job.attempts < DEVICE_ATTEMPTS
        # A device without power does not say so. A candidate that hangs takes the time of two, not of more.
        return error == "timeout" and job.attempts < 2 and has_free_device(self._device)


class _Batch:
    """The records of one call."""

    def __init__(self, task: KernelTask, count: int, on_record: Observer | None) -> None:
        self.task = task
        self._on_record = on_record
        self.records: list[Record | None] = [None] * count

    def store(self, job: _Job, answer: dict[str, Any]) -> None:
        assert job.index is not None
        record = self.records[job.index] = Record(
            self.task.context,
            job.candidate.template,
            dict(job.candidate.config),
            answer.get("median"),
            answer.get("minimum"),
            answer.get("yardstick"),
            answer["error"],
            time.time(),
        )
        if self._on_record is not None:
            self._on_record(record)
