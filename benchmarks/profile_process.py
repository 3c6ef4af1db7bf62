"""What a process that only profiles runs; importing it does not import TVM."""

from __future__ import annotations

from typing import Any

from benchmarks.networks import Network


def profile_in_process(item: Network, target: str, threads: int) -> dict[str, Any]:
    """`benchmarks.kernel_profile.profile`, with its summary by template, as plain data."""
    from benchmarks.kernel_profile import by_template, profile
    from benchmarks.machine import Peak

    found = profile(item, target, threads)
    return {**found, "by_template": by_template(found["kernels"], Peak(**found["peak"]))}
