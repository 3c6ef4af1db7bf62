"""The one exception type that EdgeIR raises for bad input; every room may import it."""

from __future__ import annotations


class EdgeIRError(Exception):
    """Bad input or an unsupported request, told in terms that the caller can act on.

    Args:
        what: one sentence that says what is wrong.
        where: the place: a file, a node, a value, an option.
        expected: what would have been accepted.
        got: what was found.
        hint: what to do about it.
        details: further lines (for instance, all unsupported nodes, or IR text).
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        expected: object = None,
        got: object = None,
        hint: str | None = None,
        details: str | None = None,
    ) -> None:
        self.what = what
        self.where = where
        self.expected = expected
        self.got = got
        self.hint = hint
        self.details = details
        super().__init__(self._text())

    def _text(self) -> str:
        lines = [self.what]
        for label, value in (
            ("where", self.where),
            ("expected", self.expected),
            ("got", self.got),
            ("hint", self.hint),
        ):
            if value is not None:
                lines.append(f"  {label}: {value}")
        if self.details:
            lines.append(self.details)
        return "\n".join(lines)


class VerificationError(EdgeIRError):
    """A graph breaks an invariant of the IR."""


class TypeInferenceError(EdgeIRError):
    """An operator cannot take the types or attributes that it was given."""


class UnsupportedModelError(EdgeIRError):
    """A model uses operators, types or control flow that EdgeIR does not import."""


class ArtifactError(EdgeIRError):
    """An artifact folder is damaged, foreign, or made for another machine."""
