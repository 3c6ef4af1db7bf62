"""Tables of what there is: passes and targets, as plain data."""

from __future__ import annotations

import dataclasses
from typing import Any

from edgeir.passmanager import registered_passes
from edgeir.targets import ALIASES, PRESETS, Target, host, lookup


def pass_rows() -> list[dict[str, str]]:
    """Name, options with defaults, and summary of every pass."""
    rows = []
    for name, cls in registered_passes().items():
        options = []
        for field in dataclasses.fields(cls):  # pyright: ignore[reportArgumentType]  every pass is a dataclass
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            option = field.name.replace("_", "-")
            options.append(option if required else f"{option}={field.default}")
        rows.append(
            {"name": name, "options": ", ".join(options), "summary": (cls.__doc__ or "").strip().split("\n")[0]}
        )
    return rows


def target_rows() -> list[dict[str, Any]]:
    """The host as detected, every preset, and every alias."""
    rows = [_row(host()), *(_row(target) for target in PRESETS.values())]
    return rows + [_row(lookup(alias)) | {"alias_of": preset} for alias, preset in ALIASES.items()]


def _row(target: Target) -> dict[str, Any]:
    return {
        "name": target.name,
        "triple": target.triple,
        "cpu": target.cpu,
        "features": list(target.features),
        "required": list(target.required),
        "vector_bits": target.vector_bits,
        "vector_registers": target.vector_registers,
        "cores": target.cores,
        "gpu": None if target.gpu is None else target.gpu.arch or target.kind,
    }
