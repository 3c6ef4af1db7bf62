"""What every device can do, how one is named, and checking an artifact on it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgeir.devices.emulated import EmulatedDevice
from edgeir.devices.remote import RemoteDevice
from edgeir.devices.setup import DESCRIPTION, default_folder
from edgeir.errors import EdgeIRError
from edgeir.runtime import Artifact, VerifyReport
from edgeir.runtime.golden import check_tolerance, compare_outputs


class Device(Protocol):
    """A machine other than this one."""

    def run(self, artifact: Artifact, inputs: Mapping[str, Any], threads: int | None = None) -> dict[str, np.ndarray]:
        """Run an artifact there once.

        Args:
            artifact: checked before it is sent: its files, and the machine as far as the machine tells of itself.
            inputs: an array for each input, as in `Session.run`.
            threads: number of threads; the device's own choice if None.

        Raises:
            ArtifactError: the artifact is damaged, made for another machine, or failed.
            EdgeIRError: an input is wrong, or the device cannot be reached.
        """
        ...


def device_named(text: str) -> Device:
    """The device that a text names.

    Args:
        text: `qemu-aarch64`, `qemu-aarch64:CPU` with one of qemu's CPUs, the folder of an emulated device, or
            `rpc://HOST:PORT[/KEY]` (a server) or `tracker://HOST:PORT/KEY` (one of a tracker's devices).

    Raises:
        EdgeIRError: it names none, or the emulated device is not set up.
    """
    if text.startswith(("rpc://", "tracker://")):
        return RemoteDevice.parse(text)
    kind, _, cpu = text.partition(":")
    if kind == "qemu-aarch64":
        return EmulatedDevice.load(default_folder(), cpu)
    if (Path(text) / DESCRIPTION).is_file():
        return EmulatedDevice.load(Path(text))
    raise EdgeIRError(
        "There is no such device.",
        where="--on",
        expected="qemu-aarch64, qemu-aarch64:CPU, an emulated device's folder, rpc://HOST:PORT[/KEY], "
        "or tracker://HOST:PORT/KEY",
        got=text,
    )


def verify_on(
    device: Device, path: str | os.PathLike[str], threads: int | None = None, tolerance: float | None = None
) -> VerifyReport:
    """Run an artifact's golden inputs on a device and compare the outputs here; see `edgeir.runtime.verify`."""
    check_tolerance(tolerance)
    artifact = Artifact.load(path)
    inputs, golden = artifact.load_golden()
    return compare_outputs(artifact.manifest, device.run(artifact, inputs, threads), golden, tolerance)
