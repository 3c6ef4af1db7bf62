"""How a machine behind TVM's RPC is named: `rpc://` and a server, or `tracker://` and one of a tracker's devices."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

from edgeir.errors import EdgeIRError

FORMS = "rpc://HOST:PORT[/KEY] for a server, tracker://HOST:PORT/KEY for a device of a tracker"
_ADDRESS = re.compile(
    r"(?P<kind>rpc|tracker)://(?P<host>[^:/\[\]]+|\[[^\[\]]+\]):(?P<port>\d+)(?:/(?P<key>[\w.\-]*))?\Z"
)


@dataclass(frozen=True)
class RpcAddress:
    """A server, or a kind of device at a tracker.

    Attributes:
        host, port: of the server or the tracker.
        key: the server's key ("" for a server without one), or what devices are called at the tracker.
        is_tracker: whether it is a tracker's.
    """

    host: str
    port: int
    key: str = ""
    is_tracker: bool = False

    @staticmethod
    def parse(text: str, where: str, others: str = "") -> RpcAddress:
        """Reads `rpc://HOST:PORT[/KEY]` or `tracker://HOST:PORT/KEY`.

        Args:
            text: what to read.
            where: for the error.
            others: what else would have been allowed, for the error.

        Raises:
            EdgeIRError: it is neither.
        """
        matched = _ADDRESS.match(text)
        if matched is not None and 0 < int(matched["port"]) < 65536:
            found = RpcAddress(
                matched["host"].strip("[]"), int(matched["port"]), matched["key"] or "", matched["kind"] == "tracker"
            )
            if found.key or not found.is_tracker:
                return found
        expected = f"{others}, {FORMS}" if others else FORMS
        raise EdgeIRError("not a device", where=where, expected=expected, got=text)

    def check_listening(self, seconds: float = 10.0) -> None:
        """Connects once: TVM asks an address where nobody listens for a minute.

        Raises:
            OSError: nobody answers within that time.
        """
        socket.create_connection((self.host, self.port), seconds).close()

    def __str__(self) -> str:
        """The text that `parse` reads."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tracker' if self.is_tracker else 'rpc'}://{host}:{self.port}" + (f"/{self.key}" if self.key else "")
