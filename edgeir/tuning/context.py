"""What a measurement belongs to: a kernel on a machine with a number of threads and a compiler."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeir.errors import EdgeIRError
from edgeir.targets.target import Target

CONTEXT_FIELDS = {"kernel": str, "problem": str, "target": dict, "threads": int, "versions": dict}


@dataclass(frozen=True, eq=False)
class Context:
    """The key of a record.

    Attributes:
        kernel: text of the computation (`Task.key`): operators, attributes, shapes, element types, layouts.
        target: `target_features` of the machine.
        threads: threads that the kernel may use.
        versions: package → version of what generated the code.
        problem: the kernel as text from which it can be built again (`Problem.to_text`); no part of the key.
    """

    kernel: str
    target: Mapping[str, Any]
    threads: int
    versions: Mapping[str, str]
    problem: str = field(default="")

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 of everything but `problem`, in hexadecimal."""
        parts = [self.kernel, self.target, self.threads, self.versions]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @functools.cached_property
    def operators(self) -> tuple[str, ...]:
        """The operators that the kernel's text names, in its order."""
        return tuple(map(_operator, self._computations))

    @functools.cached_property
    def anchor(self) -> str | None:
        """The operator that gives the kernel its schedule; the first one where none is marked."""
        marked = (line for line in self._computations if line.endswith(" anchor"))
        line = next(marked, next(iter(self._computations), None))
        return None if line is None else _operator(line)

    @property
    def _computations(self) -> list[str]:
        return [line for line in self.kernel.split("\n") if " = " in line]

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {
            "kernel": self.kernel,
            "problem": self.problem,
            "target": dict(self.target),
            "threads": self.threads,
            "versions": dict(self.versions),
        }

    @staticmethod
    def from_dict(data: object, where: str) -> Context:
        """Reads what `to_dict` wrote.

        Raises:
            EdgeIRError: a field is missing, unknown or of the wrong type.
        """
        values = checked_fields(data, CONTEXT_FIELDS, where)
        if values["threads"] < 1:
            raise EdgeIRError("wrong number of threads", where=where, expected="an integer ≥ 1", got=values["threads"])
        if not all(isinstance(item, str) for item in values["versions"].values()):
            raise EdgeIRError("versions must be strings", where=where, got=values["versions"])
        return Context(values["kernel"], values["target"], values["threads"], values["versions"], values["problem"])


def _operator(line: str) -> str:
    return line.split(" = ", 1)[1].split("(", 1)[0]


def target_features(target: Target) -> dict[str, Any]:
    """What of a target decides how fast a kernel runs: all but its name and its number of cores."""
    return {key: value for key, value in target.to_dict().items() if key not in ("name", "cores")}


def checked_fields(data: object, kinds: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`data` if it is a mapping with exactly these fields, each of its type (or one of a tuple of types).

    Raises:
        EdgeIRError: it is not.
    """
    if not isinstance(data, Mapping):
        raise EdgeIRError("not a record", where=where, expected="a JSON object", got=type(data).__name__)
    if set(data) != set(kinds):
        raise EdgeIRError("wrong fields", where=where, expected=sorted(kinds), got=sorted(map(str, data)))
    for name, kind in kinds.items():
        allowed = kind if isinstance(kind, tuple) else (kind,)
        value = data[name]
        # JSON's true and false are ints to Python.
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            expected = " or ".join(item.__name__ for item in allowed)
            raise EdgeIRError("a field has the wrong type", where=f"{where}, {name}", expected=expected, got=value)
    return dict(data)
