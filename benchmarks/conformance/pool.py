"""Worker processes for cases: each is reused until a case crashes or hangs it, which costs that case only."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

CASES_PER_WORKER = 300
"""A worker is renewed after so many, to bound the memory that compilers keep."""


def _serve(connection: Connection, function: Callable[[Item], Answer]) -> None:
    # Compilers print from C++, which would tear the progress line.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        connection.send(function(item))


class _Worker(Generic[Item]):
    def __init__(self, function: Callable[[Item], Answer]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, function), daemon=True)
        self.process.start()
        other.close()
        self.item: Item | None = None
        self.deadline = 0.0
        self.served = 0

    def start(self, item: Item, timeout: float) -> None:
        # The first case also pays for the imports.
        self.deadline = time.monotonic() + timeout + (0 if self.served else 60)
        self.item = item
        self.served += 1
        self.connection.send(item)

    def end(self) -> int | None:
        self.connection.close()
        self.process.join(0.5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        return self.process.exitcode


def run_guarded(
    function: Callable[[Item], Answer],
    items: Iterable[Item],
    jobs: int,
    timeout: float,
    on_failure: Callable[[str, str], Answer],
) -> Iterator[tuple[Item, Answer]]:
    """Applies a function to items in worker processes.

    Args:
        function: importable by name; its items and answers travel by pickle between our own processes.
        items: what to apply it to.
        jobs: number of workers.
        timeout: seconds for one item.
        on_failure: makes an answer from ("crash" or "timeout", what happened).

    Yields:
        Items with their answers, in the order in which they are ready.
    """
    pending = iter(items)
    workers: list[_Worker[Item]] = []
    exhausted = False
    try:
        while True:
            while not exhausted and len(workers) < jobs:
                item = next(pending, None)
                if item is None:
                    exhausted = True
                    break
                worker: _Worker[Item] = _Worker(function)
                worker.start(item, timeout)
                workers.append(worker)
            if not workers:
                return
            ready = wait([worker.connection for worker in workers], timeout=1.0)
            for worker in list(workers):
                assert worker.item is not None
                if worker.connection in ready:
                    item, alive = worker.item, True
                    try:
                        answer = worker.connection.recv()
                    except (EOFError, OSError):
                        alive = False
                        answer = on_failure("crash", f"the process ended with code {worker.end()}")
                elif time.monotonic() > worker.deadline:
                    item, alive = worker.item, False
                    worker.end()
                    answer = on_failure("timeout", f"no answer in {timeout:g} s")
                else:
                    continue
                following = next(pending, None) if alive and worker.served < CASES_PER_WORKER else None
                if following is not None:
                    worker.start(following, timeout)
                else:
                    workers.remove(worker)
                    if alive:
                        worker.end()
                yield item, answer
    finally:
        for worker in workers:
            worker.process.kill()
            worker.end()
