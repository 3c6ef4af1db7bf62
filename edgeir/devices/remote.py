"""A device that runs TVM's RPC server.

TVM's RPC is not encrypted, asks for no password, and runs what it is sent: the server belongs on a network that you
trust, or bound to the loopback address behind an SSH tunnel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeir.devices.carriers import from_carrier, to_carrier
from edgeir.errors import ArtifactError, EdgeIRError
from edgeir.runtime import Artifact, Machine
from edgeir.runtime.dtypes import carrier_dtype
from edgeir.runtime.inputs import checked_inputs
from edgeir.runtime.threads import checked_threads
from edgeir.targets import architecture_of
from edgeir.targets.host import parse_cpuinfo
from edgeir.targets.rpc_address import RpcAddress
from edgeir.targets.systems import system_of


@dataclass(frozen=True)
class RemoteDevice:
    """A device behind an RPC server.

    Attributes:
        address: of the server, or of the tracker that hands out one.
        timeout: seconds after which the server ends a session.
    """

    address: RpcAddress
    timeout: int = 900

    @staticmethod
    def parse(text: str) -> RemoteDevice:
        """`rpc://HOST:PORT[/KEY]` or `tracker://HOST:PORT/KEY` → the device. Nothing is connected yet.

        Raises:
            EdgeIRError: the text has another form.
        """
        return RemoteDevice(RpcAddress.parse(text, "--on"))

    @property
    def name(self) -> str:
        """The text that `parse` reads."""
        return str(self.address)

    def run(self, artifact: Artifact, inputs: Mapping[str, Any], threads: int | None = None) -> dict[str, np.ndarray]:
        """Upload an artifact's library and run it once; see `Device.run`."""
        artifact.check_files()
        manifest = artifact.manifest
        arrays = checked_inputs(manifest.inputs, inputs)
        count = None if threads is None else checked_threads(threads)
        session = self._connect()
        try:
            artifact.check_machine(self._machine(session))
            results = self._call(session, artifact, arrays, count)
        except EdgeIRError:
            raise
        except Exception as error:  # TVM passes on whatever the device raised, or that it has gone.
            # This is how a session whose process died looks from here.
            died = "kShutdown" in str(error)
            raise ArtifactError(
                "The device ended the session." if died else "The artifact could not be run on the device.",
                where=self.name,
                got=_last_line(error),
                hint="its code is for another architecture, CPU or version of TVM, or took too long",
            ) from error
        finally:
            # A server has one client at a time, and garbage collection would let go of this one too late.
            _ask(lambda: session.get_function("CloseRPCConnection")())
        found = [(array.dtype.name, array.shape) for array in results]
        wanted = [(carrier_dtype(spec.dtype).name, spec.shape) for spec in manifest.outputs]
        if found != wanted:
            raise ArtifactError(
                "The device's outputs do not match the manifest.", where=self.name, expected=wanted, got=found
            )
        pairs = zip(manifest.outputs, results, strict=True)
        return {spec.name: from_carrier(array, spec.dtype) for spec, array in pairs}

    def _connect(self) -> Any:
        from tvm import rpc

        address = self.address
        try:
            if address.is_tracker:
                # TVM waits for a key that nobody has for ever.
                address.check_listening()
                tracker = rpc.connect_tracker(address.host, address.port)
                keys = {str(item["key"]).removeprefix("server:") for item in tracker.summary()["server_info"]}
                if address.key not in keys:
                    raise ValueError(f"the tracker has {', '.join(sorted(keys)) or 'no devices'}")
                return tracker.request(address.key, session_timeout=self.timeout)
            return rpc.connect(address.host, address.port, address.key, session_timeout=self.timeout)
        except Exception as error:
            raise EdgeIRError(
                "The device cannot be reached.",
                where=self.name,
                got=_last_line(error),
                hint="start its server there: edgeir device serve, or python -m tvm.exec.rpc_server",
            ) from error

    def _machine(self, session: Any) -> Machine:
        """What the server can tell of its machine: a server with TVM's compiler its triple, one on Linux its CPU."""
        triple = _ask(lambda: str(session.get_function("target.llvm_get_system_triple")()))
        text = _ask(lambda: bytes(session.download("/proc/cpuinfo")).decode("utf-8", "replace"))
        features = parse_cpuinfo(text) if text else None
        architecture = architecture_of(triple) if triple else ""
        return Machine(f"the device {self.name}", architecture, system_of(triple or ""), features or None)

    def _call(
        self, session: Any, artifact: Artifact, arrays: list[np.ndarray], threads: int | None
    ) -> list[np.ndarray]:
        import tvm
        from tvm.runtime.vm import VirtualMachine

        manifest = artifact.manifest
        device = session.cpu()
        # A name of its own: the device's dynamic linker would take a known name for the file it has mapped.
        name = f"edgeir-{hashlib.sha256(manifest.library_sha256.encode()).hexdigest()[:16]}.so"
        session.upload(str(artifact.library), name)
        try:
            if threads is not None:
                session.get_function("runtime.config_threadpool")(1, threads)
            machine = VirtualMachine(session.load_module(name), device)
            tensors = [
                tvm.runtime.tensor(to_carrier(array, spec.dtype), device)
                for array, spec in zip(arrays, manifest.inputs, strict=True)
            ]
            # A tuple cannot cross, so the results stay in the device's machine and are fetched one by one.
            machine.set_input("main", *tensors)
            machine.invoke_stateful("main")
            results: Any = machine.get_outputs("main")
            return [tensor.numpy() for tensor in (results if isinstance(results, list | tuple) else [results])]
        finally:
            _ask(lambda: session.remove(name))


def _last_line(error: Exception) -> str:
    """What an error of TVM says, without the traceback before it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def _ask(question: Callable[[], Any]) -> Any:
    """The answer, or None from a server that cannot give it."""
    try:
        return question()
    except Exception:
        return None
