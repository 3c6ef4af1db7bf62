"""A process for each contender, which the benchmark lets run in turn.

In one process the contenders would disturb each other: TVM's and OpenVINO's thread pools bind the calling thread to
cores, so that pools made later start on a part of the machine, OpenMP and TBB settings are global, and idle pools
spin. Processes also keep a crash to one row. Only one runs at a time; the pipes carry no tensors while clocks run.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from benchmarks.contenders import contender, versions
from benchmarks.networks import Network, random_inputs

MINIMUM_RUNS = 3


class WorkerError(Exception):
    """A contender failed; the text says why in one line."""


@dataclass(frozen=True)
class Prepared:
    """What preparing a model gave.

    Attributes:
        seconds: how long it took.
        versions: package → version.
        outputs: of the first run.
    """

    seconds: float
    versions: dict[str, str]
    outputs: list[np.ndarray] = field(repr=False)


def serve(connection: Connection, log: str, name: str, target: str, item: Network, threads: int) -> None:
    """The worker's main function: prepares, then runs for as many seconds as each message says, until None."""
    # Libraries print from C++; the last lines of that are the best account of a failed conversion.
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        inputs = random_inputs(item)
        engine = contender(name, target)
        start = time.perf_counter()
        engine.prepare(item.path, item.shapes, threads)
        seconds = time.perf_counter() - start
        outputs = [np.array(array) for array in engine.run(inputs)]
        connection.send(Prepared(seconds, versions(engine), outputs))
        while (message := connection.recv()) is not None:
            connection.send(_turn(engine, inputs, message))
    except EOFError:
        return
    except BaseException as error:
        traceback.print_exc()
        connection.send(f"{type(error).__name__}: {_first_line(str(error))}")


def _turn(engine: Any, inputs: dict[str, np.ndarray], seconds: float) -> list[float]:
    """Seconds of each run; the first run of a turn warms caches and wakes threads, and is not counted."""
    engine.run(inputs)
    clock, times = time.perf_counter, []
    end = clock() + seconds
    while clock() < end or len(times) < MINIMUM_RUNS:
        start = clock()
        engine.run(inputs)
        times.append(clock() - start)
    return times


class Worker:
    """A contender in a process of its own. A context manager.

    Args:
        name: the contender.
        target: what EdgeIR compiles for.
        item: the network.
        threads: number of threads.
    """

    def __init__(self, name: str, target: str, item: Network, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        with tempfile.NamedTemporaryFile(prefix=f"{name}.", suffix=".log", delete=False) as file:
            self.log = file.name
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, self.log, name, target, item, threads), daemon=True)
        self.process.start()
        other.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self.connection.send(None)
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()
        os.unlink(self.log)

    def prepared(self, timeout: float = 900) -> Prepared:
        """Waits until the model is ready.

        Raises:
            WorkerError: it cannot be run, or not within `timeout` seconds.
        """
        return self._answer(timeout)

    def turn(self, seconds: float, timeout: float = 300) -> list[float]:
        """Lets the contender run for a while; seconds of each run.

        Raises:
            WorkerError: a run failed.
        """
        try:
            self.connection.send(seconds)
        except OSError as error:
            raise WorkerError(f"the process ended: {error}") from error
        return self._answer(timeout)

    def _answer(self, timeout: float) -> Any:
        if not self.connection.poll(timeout):
            raise WorkerError(f"no answer in {timeout:g} s")
        try:
            answer = self.connection.recv()
        except (EOFError, ConnectionError) as error:
            self.process.join(5)
            raise WorkerError(f"the process ended with code {self.process.exitcode}{self._hint()}") from error
        if isinstance(answer, str):
            raise WorkerError(answer + self._hint())
        return answer

    def _hint(self) -> str:
        """The line of the library's own output that names what it lacks, if there is one."""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file]
        found = [line for line in lines if re.search(r"not support|unsupported", line, re.IGNORECASE)]
        return f" ({found[-1][:200]})" if found else ""


def _first_line(text: str) -> str:
    lines: Sequence[str] = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:3])[:300] if lines else "no message"
