"""One measurement, and its form as a line of JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeir.errors import EdgeIRError
from edgeir.tuning.context import Context, checked_fields

if TYPE_CHECKING:
    # Listing records needs no compiler, whose import takes half a second.
    from edgeir.schedules.template import Config

FORMAT = 1
ERRORS = ("", "invalid", "build", "crash", "timeout", "wrong", "run", "device")
"""Kinds of failure; "" for a measurement that succeeded."""

NEVER_TRUSTED = ("wrong", "crash")
"""A configuration that failed like this once may not win, whatever other measurements say."""

_FIELDS = {
    "format": int,
    "context": dict,
    "template": str,
    "config": dict,
    "median": (float, int, type(None)),
    "minimum": (float, int, type(None)),
    "yardstick": (float, int, type(None)),
    "error": str,
    "time": (float, int),
}


@dataclass(frozen=True)
class Record:
    """A measured configuration.

    Attributes:
        context: the kernel, machine, threads and compiler.
        template: name of the schedule template.
        config: its knobs.
        median, minimum: seconds of one run over the repeats; None where the candidate failed.
        yardstick: least seconds of one run of the default configuration, measured at the same moment.
        error: one of `ERRORS`.
        time: when it was measured, seconds since 1970.
    """

    context: Context
    template: str
    config: Config
    median: float | None = None
    minimum: float | None = None
    yardstick: float | None = None
    error: str = ""
    time: float = field(default=0.0)

    @property
    def ratio(self) -> float:
        """Seconds relative to the default's at the same moment; infinite for a failure."""
        if self.error or not self.minimum or not self.yardstick:
            return math.inf
        return self.minimum / self.yardstick


def config_text(config: Mapping[str, int | str | bool]) -> str:
    """A configuration as JSON with sorted keys: equal configurations, equal texts."""
    return json.dumps(dict(config), sort_keys=True)


def config_from(data: object, where: str) -> dict[str, int | str | bool]:
    """A configuration from JSON values.

    Raises:
        EdgeIRError: it is no mapping from names to integers, strings and booleans.
    """
    if not isinstance(data, Mapping) or not all(isinstance(value, int | str | bool) for value in data.values()):
        raise EdgeIRError("not a configuration", where=where, expected="knob → integer, string or boolean", got=data)
    return {str(key): value for key, value in data.items()}


def record_to_line(record: Record) -> str:
    """A record as one line of JSON, without the line end."""
    data: dict[str, Any] = {
        "format": FORMAT,
        "context": record.context.to_dict(),
        "template": record.template,
        "config": dict(record.config),
        **{key: getattr(record, key) for key in ("median", "minimum", "yardstick", "error", "time")},
    }
    return json.dumps(data, sort_keys=True)


def record_from_line(line: str, where: str) -> Record:
    """Reads what `record_to_line` wrote.

    Raises:
        EdgeIRError: it is no JSON, or not of that form.
    """
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise EdgeIRError("not a line of JSON", where=where, got=str(error)) from None
    values = checked_fields(data, _FIELDS, where)
    if values["format"] != FORMAT:
        raise EdgeIRError("unknown format of records", where=where, expected=FORMAT, got=values["format"])
    if values["error"] not in ERRORS:
        raise EdgeIRError("unknown kind of failure", where=where, expected=", ".join(ERRORS[1:]), got=values["error"])
    seconds = [values[name] for name in ("median", "minimum", "yardstick") if values[name] is not None]
    if any(not math.isfinite(item) or item <= 0 for item in seconds) or not math.isfinite(values["time"]):
        raise EdgeIRError("seconds must be positive and finite", where=where, got=seconds)
    if not values["error"] and (values["median"] is None or values["minimum"] is None):
        raise EdgeIRError("a measurement lacks its seconds", where=where)
    return Record(
        Context.from_dict(values["context"], where),
        values["template"],
        config_from(values["config"], where),
        values["median"],
        values["minimum"],
        values["yardstick"],
        values["error"],
        float(values["time"]),
    )
