"""Which linker makes a shared library for a target: the system's own, or a cross compiler."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass

from tvm.support import cc

from edgeir.errors import EdgeIRError
from edgeir.targets.host import host_architecture
from edgeir.targets.systems import system_of
from edgeir.targets.target import Target

Linker = Callable[..., None]
"""Takes the file to write and a list of object files, as TVM's `export_library` calls its `fcompile`."""


@dataclass(frozen=True)
class CrossCompiler:
    """A GNU cross compiler: the prefix of its programs, and the package of Debian that has it."""

    prefix: str
    package: str

    def find(self) -> str | None:
        """The program's path; the C++ driver if there is one, or the C driver. None if neither is installed."""
        return shutil.which(f"{self.prefix}-g++") or shutil.which(f"{self.prefix}-gcc")


_GNU = {
    "aarch64": CrossCompiler("aarch64-linux-gnu", "g++-aarch64-linux-gnu"),
    "arm": CrossCompiler("arm-linux-gnueabihf", "g++-arm-linux-gnueabihf"),
    "riscv64": CrossCompiler("riscv64-linux-gnu", "g++-riscv64-linux-gnu"),
    "x86_64": CrossCompiler("x86_64-linux-gnu", "g++-x86-64-linux-gnu"),
}
_SOFT_FLOAT_ARM = CrossCompiler("arm-linux-gnueabi", "g++-arm-linux-gnueabi")


def is_foreign(target: Target) -> bool:
    """Whether this machine's own linker cannot link for the target: another architecture or operating system."""
    return target.architecture != host_architecture() or system_of(target.triple) not in ("", platform.system().lower())


def linker_for(target: Target) -> Linker | None:
    """The linker for a target, as TVM's `export_library` takes it; None: the system's own.

    Raises:
        EdgeIRError: the target is foreign, and no compiler for it is known or installed.
    """
    if not is_foreign(target):
        return None
    return cc.cross_compiler(cross_compiler(target))


def cross_compiler(target: Target) -> str:
    """The path of the GNU cross compiler for a target with Linux.

    Raises:
        EdgeIRError: none is known for the target, or it is not installed.
    """
    where = f"target {target.name} ({target.triple})"
    tools = _GNU.get(target.architecture)
    if target.architecture == "arm" and target.triple.endswith("gnueabi"):
        tools = _SOFT_FLOAT_ARM
    if tools is None or system_of(target.triple) not in ("", "linux"):
        raise EdgeIRError(
            "EdgeIR knows no linker for this target.",
            where=where,
            expected=f"this machine's own system, or Linux on {', '.join(_GNU)}",
            hint="--emit object writes what a tool chain of your own can link",
        )
    path = tools.find()
    if path is None:
        raise EdgeIRError(
            "The cross compiler that links for this target is not installed.",
            where=where,
            expected=f"{tools.prefix}-g++ or {tools.prefix}-gcc on the PATH",
            hint=f"on Debian and Ubuntu: apt-get install {tools.package}; or --emit object, which does not link",
        )
    return path
