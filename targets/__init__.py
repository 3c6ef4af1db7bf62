"""Targets as data: what a compiler must know of each machine, and how this machine is found out."""

from edgeir.targets.host import cpu_features, host, host_architecture, host_cores
from edgeir.targets.lookup import lookup, preset_names
from edgeir.targets.presets import ALIASES, PRESETS
from edgeir.targets.target import Target, architecture_of

__all__ = [
    "ALIASES",
    "PRESETS",
    "Target",
    "architecture_of",
    "cpu_features",
    "host",
    "host_architecture",
    "host_cores",
    "lookup",
    "preset_names",
]
