"""Versions of what turns a configuration into machine code: a measurement holds for these only."""

from __future__ import annotations

import functools
import importlib.metadata

from tvm.target import codegen

SCHEDULE_VERSION = 2
"""Raised when a template's knobs change their meaning, so that older records no longer apply."""


@functools.cache
def _found() -> tuple[tuple[str, str], ...]:
    return (
        ("apache-tvm", importlib.metadata.version("apache-tvm")),
        ("llvm", str(codegen.llvm_version_major())),
        ("schedules", str(SCHEDULE_VERSION)),
    )


def compiler_versions() -> dict[str, str]:
    """Version of TVM, major version of LLVM, and of the schedule templates."""
    return dict(_found())
