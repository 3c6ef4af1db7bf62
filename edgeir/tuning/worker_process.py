"""A worker process: started fresh, spoken to in JSON over a pipe, killed when it does not answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from edgeir.errors import EdgeIRError

START_SECONDS = 60.0
"""How long a worker may take to start; importing TVM takes a second on a quiet machine."""


class WorkerProcess:
    """One process of `edgeir.tuning.worker` that answers one message at a time.

    Args:
        role: `build`, `run` (candidates) or `model`.
        environment: variables added to this process's.
        cores: CPU cores to which the worker is bound; any if empty.
    """

    def __init__(self, role: str, environment: Mapping[str, str] | None = None, cores: Sequence[int] = ()) -> None:
        self.role = role
        self._environment = dict(environment or {})
        self._cores = tuple(cores)
        self.deadline = float("inf")
        self.busy = False
        self._start()

    def _start(self) -> None:
        their_input, our_output = os.pipe()
        our_input, their_output = os.pipe()
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "edgeir.tuning.worker", self.role, str(their_input), str(their_output)),
                ",".join(map(str, self._cores)),
            ],
            pass_fds=(their_input, their_output),
            env={**os.environ, **self._environment, "PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(their_input)
        os.close(their_output)
        self.connection = Connection(our_input, writable=False)
        self._output = Connection(our_output, readable=False)
        self.busy = False
        self._fresh = True

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def send(self, message: Mapping[str, Any], seconds: float) -> None:
        """Gives the worker something to do, for at most `seconds`.

        Raises:
            EdgeIRError: no worker can be started.
        """
        if self._process.poll() is not None:
            self.restart()
        if self._fresh:
            # Restarts are rare, so that others may wait for the next task until this one is up.
            if not self.connection.poll(START_SECONDS) or self.receive() is None:
                raise EdgeIRError("a worker process could not be started", where=f"edgeir.tuning.worker {self.role}")
            self._fresh = False
        self.busy = True
        self.deadline = time.monotonic() + seconds
        # A worker that died meanwhile is noticed when its answer is awaited.
        with suppress(OSError):
            self._output.send_bytes(json.dumps(message).encode())

    def receive(self) -> dict[str, Any] | None:
        """The answer, which must be waiting on `connection`; None if the worker died instead."""
        self.busy = False
        self.deadline = float("inf")
        try:
            return json.loads(self.connection.recv_bytes())
        except (EOFError, OSError, ValueError):
            return None

    def restart(self) -> None:
        """Kills the process and starts another."""
        self.stop()
        self._start()

    def stop(self) -> None:
        """Kills the process."""
        self._process.kill()
        self._process.wait()
        self.connection.close()
        self._output.close()
        self.busy = False
        self.deadline = float("inf")
