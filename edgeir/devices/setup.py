"""Setting up an emulated aarch64 device: TVM's runtime for aarch64, and C++ programs linked to it.

The device is a folder: `libtvm_runtime.so`, `libtvm_runtime_extra.so` and `libtvm_ffi.so` out of the wheels for aarch64
of the versions that are installed here, `runner` (runs an artifact), and `device.json`; the first use of the RPC server
compiles it into the folder too. qemu's user mode runs it, with the C library of Debian's cross compiler.
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
RUNNER, SERVER = "runner", "server"
FORMAT = "edgeir-device"
EMULATOR = "qemu-aarch64"
SYSROOT = Path("/usr/aarch64-linux-gnu")
_COMPILER = "aarch64-linux-gnu-g++"
_PROGRAMS = {EMULATOR: "qemu-user", _COMPILER: "g++-aarch64-linux-gnu"}
_LIBRARIES = {
    "apache-tvm": ("tvm/lib/libtvm_runtime.so", "tvm/lib/libtvm_runtime_extra.so"),
    "apache-tvm-ffi": ("tvm_ffi/lib/libtvm_ffi.so",),
}
_PACKAGE_OF = {"tvm": "apache-tvm", "tvm_ffi": "apache-tvm-ffi"}


def default_folder() -> Path:
    """Where the emulated device is unless the user chooses a place: under the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "edgeir" / "devices" / "qemu-aarch64"


def missing_packages() -> list[str]:
    """Debian packages without which no device can be emulated here."""
    return [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]


def description() -> dict[str, str]:
    """What `device.json` of a device that is up to date holds: versions, libraries, the hash of the runner's source."""
    versions = installed_versions()
    return {
        "format": FORMAT,
        "architecture": "aarch64",
        **{key: versions.get(key, "") for key in _PACKAGE_OF},
        "libraries": " ".join(Path(member).name for members in _LIBRARIES.values() for member in members),
        "runner_sha256": _hash(RUNNER),
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
            _extract_libraries(package, wanted[key], Path(workplace), fresh)
        _compile(RUNNER, fresh, fresh / RUNNER)
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


def _extract_libraries(package: str, version: str, workplace: Path, fresh: Path) -> None:
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
    members = _LIBRARIES[package]
    try:
        (wheel,) = wheels.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for member in members:
                (fresh / Path(member).name).write_bytes(archive.read(member))
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise EdgeIRError(
            "A wheel does not hold TVM's libraries.",
            where=f"{package} {version}",
            expected=", ".join(members),
            got=str(error),
        ) from error


def _source(program: str) -> str:
    return (importlib.resources.files("edgeir.devices") / "runner" / f"{program}.cc").read_text(encoding="utf-8")


def _hash(program: str) -> str:
    return hashlib.sha256(_source(program).encode()).hexdigest()


def server_program(folder: Path) -> Path:
    """The RPC server of a device, which is compiled unless it is there and up to date.

    Raises:
        EdgeIRError: the device is older than this version, or the compiler is missing or fails.
    """
    about, wanted = read_description(folder), description()
    if about != wanted:
        raise EdgeIRError(
            "The emulated device is not up to date.",
            where=str(folder),
            hint="edgeir device emulate aarch64 sets it up anew",
        )
    program = folder / f"{SERVER}-{_hash(SERVER)[:16]}"
    if not program.exists():
        _require_packages(False)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as workplace:
            _compile(SERVER, folder, Path(workplace) / SERVER)
            # Another process may do the same; whoever comes last wins.
            os.replace(Path(workplace) / SERVER, program)
    return program


def _compile(program: str, libraries: Path, output: Path) -> None:
    """Compiles a program against the libraries in a folder, which it finds beside itself."""
    tvm_runtime()  # says what is missing where tvm_ffi is
    from tvm_ffi.libinfo import find_dlpack_include_path, find_include_path

    # Nothing of these libraries is named in the sources: they register what the programs ask for.
    linked = ("-ltvm_runtime",) if program == RUNNER else ("-ltvm_runtime_extra", "-ltvm_runtime")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / f"{program}.cc"
        source.write_text(_source(program), encoding="utf-8")
        _step(
            [
                # Kernels take the time, not these programs.
                *(_COMPILER, "-std=c++17", "-O1", str(source), "-o", str(output)),
                *(f"-I{path}" for path in dict.fromkeys((find_include_path(), find_dlpack_include_path()))),
                *(f"-L{libraries}", "-Wl,--no-as-needed", *linked, "-ltvm_ffi", "-Wl,-rpath,$ORIGIN"),
            ],
            f"the {program} could not be compiled",
        )


def _step(command: list[str], failure: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EdgeIRError(failure, got=str(error)) from error
    if done.returncode != 0:
        raise EdgeIRError(failure, where=command[0], got=f"exit code {done.returncode}", details=done.stderr.strip())
