"""Names of IR values as names of torch parameters, and back."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable


def parameter_name(name: str, taken: Callable[[str], bool]) -> str:
    """A name that torch accepts for a parameter: percent escapes for what it forbids.

    Args:
        name: name of an IR value.
        taken: whether a name is an attribute of the module already.
    """
    escaped = _escape(name)
    if not taken(escaped):
        return escaped
    # An attribute's name becomes another one when its first letter is escaped.
    return "".join(f"%{byte:02X}" for byte in name[0].encode()) + _escape(name[1:])


def _escape(name: str) -> str:
    return name.replace("%", "%25").replace(".", "%2E")


def value_name(name: str) -> str:
    """The IR value's name that `parameter_name` made the parameter's name of."""
    return urllib.parse.unquote(name, errors="strict")
