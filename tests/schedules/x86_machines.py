"""The x86 targets whose kernels can run on this machine."""

from __future__ import annotations

from typing import Any

import pytest

from edgeir.targets import Target, host, lookup

_NAMES = ("x86-64-v2", "x86-64-v3", "x86-64-v4", "x86-64-v3+avxvnni", "x86-64-v4+avx512vnni", "host")


def runs_here(target: Target) -> bool:
    """Whether this machine has what the target requires."""
    return target.architecture == host().architecture and set(target.required) <= set(host().required)


def machine(name: str, cores: int) -> Target:
    """The target of that name; skips the test where this machine cannot run its code."""
    target = lookup(name)
    if not runs_here(target):
        pytest.skip(f"this machine is no {name}")
    return target.with_cores(cores)


def targets() -> list[Any]:
    """Parameters of a test: the names of all targets, those that do not run here marked as skipped."""
    return [
        pytest.param(name, marks=pytest.mark.skipif(not runs_here(lookup(name)), reason=f"this machine is no {name}"))
        for name in _NAMES
    ]
