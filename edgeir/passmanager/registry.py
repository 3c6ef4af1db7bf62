"""Which passes there are: the built-in ones and those of installed packages."""

from __future__ import annotations

import difflib
import importlib
import re
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from edgeir.errors import EdgeIRError
from edgeir.passmanager.base import Pass

ENTRY_POINT_GROUP = "edgeir.passes"
"""Entry points of this group name a `Pass` subclass, or a module that registers some."""

P = TypeVar("P", bound=type[Pass])
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")
_PASSES: dict[str, type[Pass]] = {}
_loaded = False


def register_pass(cls: P) -> P:
    """Class decorator: makes a pass known under its name.

    Raises:
        EdgeIRError: the name is taken, or not kebab-case.
    """
    known = _PASSES.get(cls.name)
    if known is cls:
        return cls
    if known is not None:
        raise EdgeIRError(
            f"two passes are called {cls.name!r}",
            got=f"{known.__module__}.{known.__qualname__} and {cls.__module__}.{cls.__qualname__}",
            hint="rename one of them",
        )
    if not _NAME.match(cls.name):
        raise EdgeIRError("not a name for a pass", expected="kebab-case", got=repr(cls.name), where=cls.__qualname__)
    _PASSES[cls.name] = cls
    return cls


def find_pass(name: str) -> type[Pass]:
    """The pass of that name.

    Raises:
        EdgeIRError: there is none (the nearest names are given), or passes of installed packages clash.
    """
    known = registered_passes()
    if name not in known:
        near = difflib.get_close_matches(name, known, 3)
        hint = f"did you mean {', '.join(near)}?" if near else f"known passes: {', '.join(known)}"
        raise EdgeIRError("unknown pass", got=name, hint=hint)
    return known[name]


def registered_passes() -> dict[str, type[Pass]]:
    """All passes by name, sorted.

    Raises:
        EdgeIRError: a pass of an installed package clashes or cannot be imported.
    """
    global _loaded
    if not _loaded:
        # Imported by name: the library of passes builds on this room, not the other way round.
        importlib.import_module("edgeir.passes")
        load_entry_points(entry_points(group=ENTRY_POINT_GROUP))
        _loaded = True
    return dict(sorted(_PASSES.items()))


def load_entry_points(points: tuple[EntryPoint, ...] | object) -> None:
    """Registers the passes of installed packages.

    Raises:
        EdgeIRError: one cannot be imported, or clashes.
    """
    for point in points:  # type: ignore[attr-defined]
        try:
            loaded = point.load()
        except EdgeIRError:
            raise
        except Exception as error:
            raise EdgeIRError(
                "a package's passes cannot be imported",
                where=f"entry point {point.name} = {point.value}",
                got=repr(error),
            ) from error
        if isinstance(loaded, type) and issubclass(loaded, Pass):
            register_pass(loaded)
