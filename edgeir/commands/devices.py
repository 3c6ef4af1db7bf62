"""TVM's RPC server and tracker as commands."""

from __future__ import annotations

import ipaddress
import os
import time
from typing import Any

from edgeir.errors import EdgeIRError
from edgeir.targets import host_cores

WARNING = (
    "TVM's RPC is neither encrypted nor protected by a password, and runs whatever it is sent: "
    "everyone who reaches {host}:{port} controls this machine"
)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def warning(host: str, port: int) -> str | None:
    """What to tell the user of a server that others reach; None for one that they do not."""
    return None if is_loopback(host) else WARNING.format(host=host, port=port)


def parse_address(text: str) -> tuple[str, int]:
    """`HOST:PORT`.

    Raises:
        EdgeIRError: it is not.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise EdgeIRError("not an address", expected="HOST:PORT", got=text)
    return host.strip("[]"), int(port)


def start_server(host: str, port: int, key: str, tracker: str | None) -> Any:
    """Starts TVM's RPC server in a process of its own; the first free port from `port` on.

    Raises:
        EdgeIRError: the tracker's address is malformed, or no port is free.
    """
    from tvm import rpc

    address = None if tracker is None else parse_address(tracker)
    if tracker is not None and not key:
        raise EdgeIRError("a device at a tracker needs a key", where="--key")
    try:
        return rpc.Server(
            *(host, port, port + 100),
            key=key,
            tracker_addr=address,
            silent=True,
            server_init_callback=prepare_server,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise EdgeIRError("the server could not be started", where=f"{host}:{port}", got=str(error)) from error


def prepare_server() -> None:
    """In the server's process: what TVM's server needs for devices that are measured."""
    # On x86, TVM makes its pool for half of the cores; a client may ask for fewer threads, but never for more.
    os.environ.setdefault("TVM_NUM_THREADS", str(host_cores()))
    outlive_sessions()


def outlive_sessions() -> None:
    """In the server's process: code that crashes ends its session; TVM's server (0.27) would serve nobody after it."""
    from tvm.rpc import server

    serve = server._serving

    def serving(sock: Any, *arguments: Any) -> None:
        folder = os.getcwd()
        try:
            serve(sock, *arguments)
        except RuntimeError:
            os.chdir(folder)
            sock.close()

    server._serving = serving


def start_tracker(host: str, port: int) -> Any:
    """Starts TVM's tracker in a process of its own; the first free port from `port` on.

    Raises:
        EdgeIRError: no port is free.
    """
    from tvm.rpc.tracker import Tracker

    try:
        return Tracker(host, port, port + 100, silent=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise EdgeIRError("the tracker could not be started", where=f"{host}:{port}", got=str(error)) from error


def tracker_rows(tracker: str) -> list[dict[str, Any]]:
    """Key, free and waiting of each kind of device at a tracker.

    Raises:
        EdgeIRError: nobody answers there.
    """
    from tvm import rpc

    host, port = parse_address(tracker)
    try:
        summary = rpc.connect_tracker(host, port).summary()
    except Exception as error:  # Refused connections and malformed answers have no common type.
        raise EdgeIRError("the tracker does not answer", where=tracker, got=str(error).splitlines()[-1]) from error
    counts: dict[str, int] = {}
    for info in summary["server_info"]:
        key = str(info["key"]).removeprefix("server:")
        counts[key] = counts.get(key, 0) + 1
    keys = sorted({*counts, *summary["queue_info"]})
    return [
        {
            "key": key,
            "devices": counts.get(key, 0),
            "free": summary["queue_info"].get(key, {}).get("free", 0),
            "waiting": summary["queue_info"].get(key, {}).get("pending", 0),
        }
        for key in keys
    ]


def serve_forever(server: Any) -> None:
    """Waits until interrupted, then ends the server or tracker."""
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        pass
    finally:
        server.terminate()
