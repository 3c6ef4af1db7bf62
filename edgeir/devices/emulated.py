"""An aarch64 device that qemu emulates on this machine. It shows that code is right; its times say nothing."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeir.devices.setup import EMULATOR, RUNNER, SYSROOT, missing_packages, read_description
from edgeir.devices.tensor_file import read_tensors, write_tensors
from edgeir.errors import ArtifactError, EdgeIRError
from edgeir.runtime import Artifact, Machine
from edgeir.runtime.inputs import checked_inputs
from edgeir.runtime.threads import checked_threads
from edgeir.targets import Target

# Tried in this order where the target names a CPU that qemu lacks, or features beyond its CPU.
_CPUS = ("cortex-a72", "cortex-a76", "max")


@dataclass(frozen=True)
class EmulatedDevice:
    """An emulated device, set up in a folder.

    Attributes:
        folder: what `set_up` made.
        cpu: one of qemu's CPUs; "" takes the target's own or the smallest that has what an artifact requires.
            Instructions that a CPU lacks are refused there as on the real one.
        timeout: seconds that one run may take.
    """

    folder: Path
    cpu: str = ""
    timeout: float = 900

    @staticmethod
    def load(folder: Path, cpu: str = "") -> EmulatedDevice:
        """The device in a folder.

        Raises:
            EdgeIRError: there is none, qemu is missing, or it has no such CPU.
        """
        read_description(folder)
        if shutil.which(EMULATOR) is None:
            raise EdgeIRError(
                "qemu is missing.",
                expected=EMULATOR,
                hint=f"on Debian and Ubuntu: apt-get install {' '.join(missing_packages())}",
            )
        if cpu and cpu not in emulated_cpus():
            raise EdgeIRError(
                "qemu has no such CPU.", where="--on", expected=f"one of {', '.join(emulated_cpus())}", got=cpu
            )
        return EmulatedDevice(folder, cpu)

    def machine(self, cpu: str) -> Machine:
        """What the device tells of itself when it emulates a CPU."""
        about = read_description(self.folder)
        versions = {key: about[key] for key in ("tvm", "tvm_ffi") if key in about}
        return Machine(f"the emulated {cpu}", "aarch64", "linux", self.features(cpu), versions)

    def features(self, cpu: str) -> frozenset[str]:
        """The features of an emulated CPU in Linux's names, as the emulated system reports them."""
        return _features(self.folder, cpu)

    def cpu_for(self, target: Target, required: tuple[str, ...]) -> str:
        """The CPU to emulate for a target."""
        if self.cpu:
            return self.cpu
        candidates = (target.cpu, *_CPUS) if target.cpu in emulated_cpus() else _CPUS
        for cpu in candidates:
            if self.features(cpu).issuperset(required):
                return cpu
        return candidates[-1]

    def run(self, artifact: Artifact, inputs: Mapping[str, Any], threads: int | None = None) -> dict[str, np.ndarray]:
        """Run an artifact once; see `Device.run`. Without `threads` it runs on one."""
        manifest = artifact.manifest
        artifact.check_files()
        required = manifest.required_features
        # For another architecture any CPU serves to say so.
        cpu = self.cpu_for(manifest.target, required) if manifest.target.architecture == "aarch64" else _CPUS[-1]
        artifact.check_machine(self.machine(cpu))
        arrays = checked_inputs(manifest.inputs, inputs)
        count = 1 if threads is None else checked_threads(threads)
        with tempfile.TemporaryDirectory(prefix="edgeir-device-") as folder:
            given, answer = Path(folder) / "inputs", Path(folder) / "outputs"
            write_tensors(given, manifest.inputs, arrays)
            command = ["run", str(artifact.library.resolve()), str(given), str(answer)]
            _emulate(self.folder, cpu, command, self.timeout, count, str(artifact.path))
            outputs = read_tensors(answer, manifest.outputs)
        return {spec.name: array for spec, array in zip(manifest.outputs, outputs, strict=True)}


@functools.cache
def emulated_cpus() -> tuple[str, ...]:
    """The names of the CPUs that qemu emulates."""
    done = subprocess.run([EMULATOR, "-cpu", "help"], capture_output=True, text=True, check=False, timeout=60)
    return tuple(line.strip() for line in done.stdout.splitlines() if line.startswith(" "))


@functools.cache
def _features(folder: Path, cpu: str) -> frozenset[str]:
    return frozenset(_emulate(folder, cpu, ["features"], 60).split())


def _emulate(
    folder: Path, cpu: str, arguments: list[str], timeout: float, threads: int = 1, where: str | None = None
) -> str:
    """Run the runner, and return what it prints."""
    command = [EMULATOR, "-cpu", cpu, "-L", str(SYSROOT), str(folder.resolve() / RUNNER), *arguments]
    # The emulated program sees this environment: little of the host's belongs there.
    environment = {"PATH": os.environ.get("PATH", ""), "TVM_NUM_THREADS": str(threads)}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=timeout, env=environment, errors="replace"
        )
    except OSError as error:
        raise EdgeIRError("qemu could not be started", where=EMULATOR, got=str(error)) from error
    except subprocess.TimeoutExpired:
        raise EdgeIRError("the emulated device took too long", where=where, expected=f"{timeout:g} s") from None
    if done.returncode == -signal.SIGILL:
        raise ArtifactError(
            "The artifact's code uses an instruction that the device's CPU does not have.",
            where=where,
            got=f"SIGILL on the emulated {cpu}",
            hint="compile the model for a target that the device has",
        )
    if done.returncode != 0:
        raise ArtifactError(
            "The artifact failed on the emulated device.",
            where=where,
            got=f"exit code {done.returncode}",
            details=done.stderr.strip(),
        )
    return done.stdout
