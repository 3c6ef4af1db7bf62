"""Where candidates run: this machine, or a device behind TVM's RPC server or tracker."""

from __future__ import annotations

import os
from typing import Any

import tvm
from tvm import rpc

from edgeir.targets.rpc_address import RpcAddress

LOCAL = "local"
BIG_CORES = 1
"""TVM's affinity mode that takes a device's fastest cores first."""


class DeviceError(Exception):
    """The device did not answer: nothing is known about the candidate."""


def parse_device(text: str) -> RpcAddress | None:
    """Reads `local` (None), `rpc://HOST:PORT[/KEY]` (a server) or `tracker://HOST:PORT/KEY` (devices of a tracker).

    Raises:
        EdgeIRError: it is none of these.
    """
    return None if text == LOCAL else RpcAddress.parse(text, "--device", LOCAL)


class Device:
    """An open device: this process, or a session with a server."""

    def __init__(self, session: rpc.RPCSession | None) -> None:
        self._session = session
        self.handle: Any = tvm.cpu() if session is None else session.cpu(0)

    @property
    def is_remote(self) -> bool:
        """Whether it is behind RPC."""
        return self._session is not None

    def load(self, path: str) -> Any:
        """A library of this machine's disk, loaded on the device.

        Raises:
            DeviceError: the device does not take it.
        """
        if self._session is None:
            return tvm.runtime.load_module(path)
        # A name of its own: the device's dynamic linker would take a known name for the file it has mapped.
        name = f"{os.path.basename(os.path.dirname(path))}-{os.path.basename(path)}"
        try:
            self._session.upload(path, name)
            module = self._session.load_module(name)
            self._session.remove(name)
        except Exception as error:  # RPC failures come as several types of TVM's.
            raise DeviceError(str(error)) from error
        return module


def open_device(text: str, threads: int, seconds: float) -> Device:
    """Opens a device by its address.

    Args:
        text: as `parse_device` reads it.
        threads: that a server's kernels use; this process's are what its environment says.
        seconds: after which a server ends the session; the time limit of what runs there, so that a server on which
            something hangs is free for the next.

    Raises:
        EdgeIRError: not an address.
        DeviceError: nobody answers.
    """
    address = parse_device(text)
    if address is None:
        return Device(None)
    limit = max(1, int(seconds))
    try:
        if address.is_tracker:
            session = _tracker(address).request(address.key, session_timeout=limit)
        else:
            session = rpc.connect(address.host, address.port, address.key, session_timeout=limit)
        session.get_function("runtime.config_threadpool")(BIG_CORES, threads)
        used = int(session.get_function("runtime.NumThreads")())
    except Exception as error:  # Refused connections, timeouts and mismatched keys have no common type.
        raise DeviceError(f"{text}: {error}") from error
    if used != threads:
        # Times with fewer threads are those of another machine.
        message = (
            f"{text}: its kernels use at most {used} threads, not {threads}; start its server with TVM_NUM_THREADS"
        )
        raise DeviceError(message)
    return Device(session)


def has_free_device(text: str) -> bool:
    """Whether a device is a tracker's, and the tracker has one that nobody uses."""
    address = parse_device(text)
    if address is None or not address.is_tracker:
        return False
    try:
        queue = _tracker(address).summary()["queue_info"]
    except Exception:  # As above; without a tracker there is no other device.
        return False
    return queue.get(address.key, {}).get("free", 0) > 0


def _tracker(address: RpcAddress) -> Any:
    address.check_listening()
    return rpc.connect_tracker(address.host, address.port)
