"""The main function of a worker process; see `worker_process`."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

PR_SET_PDEATHSIG = 1


def main(role: str, input_descriptor: int, output_descriptor: int, cores: str) -> None:
    """Says that it is ready, then answers messages until the pipe closes."""
    end_with_parent()
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    incoming = Connection(input_descriptor, writable=False)
    outgoing = Connection(output_descriptor, readable=False)
    handler = _handler(role)
    outgoing.send_bytes(b'{"ready": true}')
    while True:
        try:
            message: dict[str, Any] = json.loads(incoming.recv_bytes())
        except EOFError:
            return
        outgoing.send_bytes(json.dumps(handler.handle(message)).encode())


def end_with_parent() -> None:
    """Asks Linux to kill this process when its parent dies: a hanging kernel would outlive it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def import_tvm() -> None:
    """Imports TVM without torch, which TVM imports where it is installed: it takes longer than all the rest."""
    if "torch" in sys.modules:
        return
    sys.modules["torch"] = None  # pyright: ignore[reportArgumentType]
    try:
        importlib.import_module("tvm")
    finally:
        del sys.modules["torch"]


def _handler(role: str) -> Any:
    import_tvm()
    if role == "build":
        from edgeir.tuning.build_candidate import Builder

        return Builder()
    if role == "model":
        from edgeir.tuning.run_model import ModelRunner

        return ModelRunner()
    from edgeir.tuning.run_candidate import Runner

    return Runner()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
