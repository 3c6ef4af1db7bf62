"""TVM's RPC server on an emulated device: what a board behind RPC does, on this machine and without its speed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from contextlib import suppress

from edgeir.devices.emulated import EmulatedDevice
from edgeir.devices.setup import EMULATOR, SYSROOT, server_program
from edgeir.errors import EdgeIRError

START_SECONDS = 60.0
DEFAULT_CPU = "cortex-a72"


class EmulatedServer:
    """A running server, bound to the loopback address; code for it needs no more than its CPU has.

    The first one for a device takes some seconds more: it compiles the server.

    Args:
        device: the emulated device; its `cpu`, or Cortex-A72, is emulated.
        port: the first port to try.
        key: what the server is called, at a tracker too.
        tracker: `HOST:PORT` of a tracker, the host as an IPv4 address; none if None.

    Attributes:
        host, port: where it listens.

    Raises:
        EdgeIRError: it cannot be compiled, or does not start.
    """

    def __init__(self, device: EmulatedDevice, port: int = 9090, key: str = "", tracker: str | None = None) -> None:
        self.host = "127.0.0.1"
        cpu = device.cpu or DEFAULT_CPU
        program = server_program(device.folder.resolve())
        command = [EMULATOR, "-cpu", cpu, "-L", str(SYSROOT), str(program), str(port), key]
        # A group of its own: a session is a process of its own, which must end with the server.
        self._process = subprocess.Popen(
            [*command, *([] if tracker is None else [tracker])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env={"PATH": os.environ.get("PATH", ""), "TVM_NUM_THREADS": "1"},
        )
        assert self._process.stdout is not None
        ready = select.select([self._process.stdout], [], [], START_SECONDS)[0]
        line = self._process.stdout.readline().strip() if ready else ""
        if not line.isdigit():
            self.terminate()
            raise EdgeIRError(
                "The server of the emulated device does not start.",
                where=str(program),
                expected=f"a free port in {port} to {port + 99}",
                got=line or "nothing",
            )
        self.port = int(line)

    def terminate(self) -> None:
        """Ends the server and its session at once, as a board does that loses its power."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
