"""Setting up an emulated aarch64 device: TVM's runtime for aarch64, and a C++ runner linked to it.

The device is a folder: `libtvm_runtime.so` and `libtvm_ffi.so` out of the wheels for aarch64 of the versions that are
installed here, `runner`, and `device.json`. qemu's user mode runs it, with the C library of Debian's cross compiler.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from edgeir.errors import EdgeIRError
from edgeir.runtime.library import installed_versions, tvm_runtime

DESCRIPTION = "device.json"
RUNNER = "runner"
FORMAT = "edgeir-device"
EMULATOR = "qemu-aarch64"
SYSROOT = Path("/usr/aarch64-linux-gnu")
_COMPILER = "aarch64-linux-gnu-g++"
_PROGRAMS = {EMULATOR: "qemu-user", _COMPILER: "g++-aarch64-linux-gnu"}
_LIBRARIES = {"apache-tvm": "tvm/lib/libtvm_runtime.so", "apache-tvm-ffi": "tvm_ffi/lib/libtvm_ffi.so"}
_PACKAGE_OF = {"tvm": "apache-tvm", "tvm_ffi": "apache-tvm-ffi"}


def default_folder() -> Path:
    """Where the emulated device is unless the user chooses a place: under the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "edgeir" / "devices" / "qemu-aarch64"


def missing_packages() -> list[str]:
    """Debian packages without which no device can be emulated here."""
    return [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]


def description() -> dict[str, str]:
    """What `device.json` of a device that is up to date holds: versions, and the hash of the runner's source."""
    versions = installed_versions()
    source = _runner_source().encode()
    return {
        "format": FORMAT,
        "architecture": "aarch64",
        **{key: versions.get(key, "") for key in _PACKAGE_OF},
        "runner_sha256": hashlib.sha256(source).hexdigest(),
    }


def set_up(folder: Path | None = None, *, install: bool = False) -> Path:
    """Make the emulated device, or leave it if it is there and up to date.

    Args:
        folder: the device's folder; `default_folder()` if None. One that holds anything else is refused.
        install: whether missing Debian packages may be installed with `apt-get`.

    Returns:
        The folder.

    Raises:
        EdgeIRError: a program is missing, or a step failed.
    """
    folder = Path(folder) if folder is not None else default_folder()
    _require_packages(install)
    wanted = description()
    if folder.exists() and any(folder.iterdir()):
        found = read_description(folder)
        if found == wanted:
            return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as workplace:
        fresh = Path(workplace) / "new"
        fresh.mkdir()
        for key, package in _PACKAGE_OF.items():
            _extract_library(package, wanted[key], Path(workplace), fresh)
        _compile_runner(fresh)
        (fresh / DESCRIPTION).write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
        try:
            if folder.exists():
                os.replace(folder, Path(workplace) / "old")
            os.replace(fresh, folder)
        except OSError:
            # Another process may have set up the same device meanwhile.
            if read_description(folder) != wanted:
                raise
    return folder


def read_description(folder: Path) -> dict[str, str]:
    """The contents of a device's `device.json`.

    Raises:
        EdgeIRError: the folder is no emulated device.
    """
    try:
        data = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or data.get("format") != FORMAT or any(type(v) is not str for v in data.values()):
        raise EdgeIRError(
            "There is no emulated device in this folder.",
            where=str(folder),
            hint="edgeir device emulate aarch64 sets one up",
        )
    return data


def _require_packages(install: bool) -> None:
    missing = missing_packages()
    if missing and install:
        _step(["apt-get", "install", "--yes", "--quiet", *missing], "Debian's packages could not be installed")
        missing = missing_packages()
    if missing:
        raise EdgeIRError(
            "Programs that emulate an aarch64 device are missing.",
            expected=", ".join(program for program, package in _PROGRAMS.items() if package in missing),
            hint=f"on Debian and Ubuntu: apt-get install {' '.join(missing)} (--install does it)",
        )


def _extract_library(package: str, version: str, workplace: Path, fresh: Path) -> None:
    if not version:
        raise EdgeIRError("A package is not installed here.", expected=package, hint=f"pip install {package}")
    wheels = workplace / package
    _step(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
            *("--only-binary=:all:", "--platform", "manylinux_2_28_aarch64"),
            *(
                "--python-version",
                ".".join(map(str, sys.version_info[:2])),
                "--dest",
                str(wheels),
                f"{package}=={version}",
            ),
        ],
        f"the aarch64 wheel of {package} could not be downloaded",
    )
    member = _LIBRARIES[package]
    try:
        (wheel,) = wheels.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (fresh / Path(member).name).write_bytes(archive.read(member))
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise EdgeIRError(
            "A wheel does not hold TVM's library.", where=f"{package} {version}", expected=member, got=str(error)
        ) from error


def _runner_source() -> str:
    return (importlib.resources.files("edgeir.devices") / "runner" / "runner.cc").read_text(encoding="utf-8")


def _compile_runner(fresh: Path) -> None:
    tvm_runtime()  # says what is missing where tvm_ffi is
    from tvm_ffi.libinfo import find_dlpack_include_path, find_include_path

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "runner.cc"
        source.write_text(_runner_source(), encoding="utf-8")
        _step(
            [
                *(_COMPILER, "-std=c++17", "-O2", str(source), "-o", str(fresh / RUNNER)),
                *(f"-I{path}" for path in dict.fromkeys((find_include_path(), find_dlpack_include_path()))),
                # Nothing of libtvm_runtime is named in the source: it registers what the executable asks for.
                *(f"-L{fresh}", "-Wl,--no-as-needed", "-ltvm_runtime", "-ltvm_ffi", "-Wl,-rpath,$ORIGIN"),
            ],
            "the runner could not be compiled",
        )


def _step(command: list[str], failure: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EdgeIRError(failure, got=str(error)) from error
    if done.returncode != 0:
        raise EdgeIRError(failure, where=command[0], got=f"exit code {done.returncode}", details=done.stderr.strip())
