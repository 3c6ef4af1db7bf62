"""Where candidates run: this machine, or a device behind TVM's RPC server or tracker."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import rpc

from edgeir.errors import EdgeIRError

SESSION_SECONDS = 60
_REMOTE = re.compile(r"rpc://(?P<host>[^:/]+|\[[^\]]+\]):(?P<port>\d+)(?:/(?P<key>[\w.\-]+))?\Z")


class DeviceError(Exception):
    """The device did not answer: nothing is known about the candidate."""


@dataclass(frozen=True)
class DeviceAddress:
    """A device.

    Attributes:
        host, port: of the server or tracker; "" and 0 for this machine.
        key: what the device is called at the tracker; "" for a server that is addressed directly.
    """

    host: str = ""
    port: int = 0
    key: str = ""

    @staticmethod
    def parse(text: str) -> DeviceAddress:
        """Reads `local`, `rpc://HOST:PORT` (a server) or `rpc://HOST:PORT/KEY` (devices of a tracker).

        Raises:
            EdgeIRError: it is none of these.
        """
        if text == "local":
            return DeviceAddress()
        matched = _REMOTE.match(text)
        if matched is None or not 0 < int(matched["port"]) < 65536:
            raise EdgeIRError("not a device", where="--device", expected="local or rpc://HOST:PORT[/KEY]", got=text)
        return DeviceAddress(matched["host"].strip("[]"), int(matched["port"]), matched["key"] or "")


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
        name = f"{os.path.basename(os.path.dirname(path))}.so"
        try:
            self._session.upload(path, name)
            module = self._session.load_module(name)
            self._session.remove(name)
        except Exception as error:  # RPC failures come as several types of TVM's.
            raise DeviceError(str(error)) from error
        return module


def open_device(text: str) -> Device:
    """Opens a device by its address.

    Raises:
        EdgeIRError: not an address.
        DeviceError: nobody answers.
    """
    address = DeviceAddress.parse(text)
    if not address.host:
        return Device(None)
    try:
        if address.key:
            tracker = rpc.connect_tracker(address.host, address.port)
            return Device(tracker.request(address.key, session_timeout=SESSION_SECONDS))
        return Device(rpc.connect(address.host, address.port, session_timeout=SESSION_SECONDS))
    except Exception as error:  # Refused connections, timeouts and mismatched keys have no common type.
        raise DeviceError(f"{text}: {error}") from error
