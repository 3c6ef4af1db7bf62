"""What keeps a model from being imported, gathered and reported at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeir.errors import EdgeIRError, UnsupportedModelError


@dataclass(frozen=True)
class Problem:
    """One node that cannot be imported.

    Attributes:
        location: the node's name.
        op_type: its operator.
        domain: the operator's domain, "" for the standard's.
        opset: version of the domain.
        why: what is the matter.
    """

    location: str
    op_type: str
    domain: str
    opset: int
    why: str

    @staticmethod
    def of(error: EdgeIRError, location: str, op_type: str, domain: str, opset: int) -> Problem:
        """The problem that an error tells of."""
        parts = [error.what]
        if error.expected is not None:
            parts.append(f"expected {error.expected}")
        if error.got is not None:
            parts.append(f"got {error.got}")
        return Problem(location, op_type, domain, opset, ", ".join(parts))

    def __str__(self) -> str:
        return f"  {self.location}: {self.op_type} ({self.domain or 'ai.onnx'}, opset {self.opset}): {self.why}"


def raise_problems(problems: Sequence[Problem], symbols: Sequence[str] = ()) -> None:
    """Reports all problems in one error, if there are any.

    Args:
        problems: the problems.
        symbols: names of the model's symbolic dimensions, for a hint.

    Raises:
        UnsupportedModelError: there are.
    """
    if not problems:
        return
    # A symbol in the message means that fixing it may help.
    named = [name for name in symbols if any(name in problem.why for problem in problems)]
    hint = f"fix {', '.join(named)} with shapes=…, or give a multiple such as 32*h" if named else None
    operators = sorted({problem.op_type for problem in problems})
    raise UnsupportedModelError(
        f"{len(problems)} node{'s' if len(problems) > 1 else ''} cannot be imported",
        got=", ".join(operators),
        hint=hint,
        details="\n".join(map(str, problems)),
    )
