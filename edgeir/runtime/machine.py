"""What a machine offers, and whether an artifact may be loaded on it: each reason against it is one sentence."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from edgeir import targets
from edgeir.errors import ArtifactError
from edgeir.runtime.library import installed_versions
from edgeir.runtime.manifest import Manifest
from edgeir.targets.systems import system_of

_PACKAGES: Final = {"tvm": "apache-tvm", "tvm_ffi": "apache-tvm-ffi"}


@dataclass(frozen=True)
class Machine:
    """The machine that is to run an artifact.

    Attributes:
        name: how sentences call it (`this machine`).
        architecture: as in `Target.architecture`; "" if it cannot be told.
        system: `platform.system()` in lower case; "" if it cannot be told.
        features: CPU features in the operating system's names; None if they cannot be told.
        versions: package → version of what it runs artifacts with (`tvm`, `tvm_ffi`), as far as that can be told.
    """

    name: str
    architecture: str
    system: str
    features: frozenset[str] | None
    versions: Mapping[str, str] = field(default_factory=dict)


def this_machine(manifest: Manifest) -> Machine:
    """The machine that this process runs on; its features are only asked for where the artifact requires some."""
    architecture = targets.host_architecture()
    features = None
    if manifest.required_features and architecture == manifest.target.architecture:
        features = targets.cpu_features()
    return Machine("this machine", architecture, platform.system().lower(), features, installed_versions())


def check_machine(manifest: Manifest, where: str, machine: Machine) -> None:
    """Compare an artifact's target and the versions it was made with to a machine; what cannot be told passes.

    Raises:
        ArtifactError: the code could not run there.
    """
    target = manifest.target
    made_for = f"target {target.name}, {target.triple}"
    if machine.architecture not in ("", target.architecture):
        raise ArtifactError(
            "The artifact was made for another architecture.",
            where=where,
            expected=f"{target.architecture} ({made_for})",
            got=f"{machine.architecture} ({machine.name})",
            hint=f"compile the model for this machine, or use a machine with {target.architecture}",
        )
    wanted = system_of(target.triple)
    if wanted and machine.system not in ("", wanted):
        raise ArtifactError(
            "The artifact was made for another operating system.",
            where=where,
            expected=f"{wanted} ({made_for})",
            got=f"{machine.system} ({machine.name})",
            hint="compile the model for this machine",
        )
    required = manifest.required_features
    missing = [] if machine.features is None else sorted(set(required) - machine.features)
    if missing:
        subject = machine.name[:1].upper() + machine.name[1:]
        raise ArtifactError(
            f"{subject}'s CPU lacks {', '.join(missing)}, which the artifact's code uses.",
            where=where,
            expected=f"a CPU with {', '.join(required)} (target {target.name})",
            got=f"a CPU without {', '.join(missing)}",
            hint="compile the model for a target that this machine has, such as --target host",
        )
    _check_versions(manifest, where, machine)


def _check_versions(manifest: Manifest, where: str, machine: Machine) -> None:
    # Neither package promises one binary interface across minor versions.
    for key, package in _PACKAGES.items():
        made, runs = manifest.versions.get(key), machine.versions.get(key)
        if made and runs and _minor(made) != _minor(runs):
            raise ArtifactError(
                f"The artifact was made with {package} {made}, and {machine.name} runs {runs}.",
                where=where,
                expected=f"{package} {_minor(made)}",
                got=f"{package} {runs}",
                hint=f"compile the model again, or pip install {package}=={made}",
            )


def _minor(version: str) -> str:
    """`0.27.0.post1` → `0.27`."""
    found = re.match(r"\d+(\.\d+)?", version)
    return found[0] if found else version
