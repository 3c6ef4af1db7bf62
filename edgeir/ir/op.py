"""What an operator is: its operands, attributes, type inference, reference evaluation and cost."""

from __future__ import annotations

import difflib
import enum
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir.dims import Dim, SymbolicDim
from edgeir.ir.dtype import DTYPES
from edgeir.ir.types import TensorType, parse_layout


class Pattern(enum.Enum):
    """How an operator may be fused.

    ELEMENTWISE: output element i depends on input elements i only (broadcasting allowed).
    INJECTIVE: every output element reads one element of each input it uses (transpose, slice, concat, …).
    REDUCTION: an output element reads a range of one input.
    ANCHOR: heavy computation with a schedule of its own (conv, matmul, softmax, …); elementwise work may follow it.
    OPAQUE: never fused.
    """

    ELEMENTWISE = "elementwise"
    INJECTIVE = "injective"
    REDUCTION = "reduction"
    ANCHOR = "anchor"
    OPAQUE = "opaque"


class Kind(enum.Enum):
    """Kinds of attribute values."""

    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    STR = "str"
    DTYPE = "dtype"
    DIM = "dim"
    INTS = "ints"
    FLOATS = "floats"
    STRS = "strs"
    DIMS = "dims"
    GRAPH = "graph"


_SEQUENCES = {Kind.INTS: Kind.INT, Kind.FLOATS: Kind.FLOAT, Kind.STRS: Kind.STR, Kind.DIMS: Kind.DIM}
REQUIRED: Any = object()
"""Default of an attribute that must be given."""


@dataclass(frozen=True)
class Attribute:
    """One attribute of an operator. A default of None makes it optional."""

    kind: Kind
    default: Any = REQUIRED
    choices: tuple[str, ...] = ()

    def normalize(self, value: Any) -> Any:
        """The value in canonical form (tuples, Python scalars).

        Raises:
            EdgeIRError: the value is not of this kind.
        """
        if value is None and self.default is None:
            return None
        if self.kind in _SEQUENCES:
            if isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray):
                raise EdgeIRError("attribute has the wrong kind", expected=self.kind.value, got=repr(value))
            return tuple(_scalar(_SEQUENCES[self.kind], item) for item in value)
        value = _scalar(self.kind, value)
        if self.choices and value not in self.choices:
            raise EdgeIRError("attribute has an unknown value", expected=" | ".join(self.choices), got=repr(value))
        return value


def _scalar(kind: Kind, value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    match kind:
        case Kind.BOOL if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
            return bool(value)
        case Kind.INT if isinstance(value, int) and not isinstance(value, bool):
            return value
        case Kind.FLOAT if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        case Kind.STR if isinstance(value, str):
            return value
        case Kind.DTYPE if isinstance(value, str) and value in DTYPES:
            return value
        case Kind.DIM if isinstance(value, int | SymbolicDim) and not isinstance(value, bool):
            return value
        case Kind.GRAPH if hasattr(value, "nodes") and hasattr(value, "inputs"):
            return value
    raise EdgeIRError("attribute has the wrong kind", expected=kind.value, got=repr(value))


class Op(ABC):
    """An operator: one instance per name, registered with `register`.

    Class attributes:
        name: canonical name, lower case.
        operands: names of the inputs; `"b?"` is optional, a last `"x*"` takes any number.
        attributes: attribute name → `Attribute`.
        pattern: how it may be fused.
        results: number of outputs, or None where it depends on the node.
        chooses_layout: the layouts of the outputs are chosen by whoever makes the node (`conv`)
            instead of following from the inputs.
    """

    name: ClassVar[str]
    operands: ClassVar[tuple[str, ...]]
    attributes: ClassVar[Mapping[str, Attribute]] = {}
    pattern: ClassVar[Pattern] = Pattern.OPAQUE
    results: ClassVar[int | None] = 1
    chooses_layout: ClassVar[bool] = False

    @abstractmethod
    def infer(self, inputs: Sequence[TensorType | None], attributes: Mapping[str, Any]) -> Sequence[TensorType]:
        """Types of the outputs. Layouts are not this method's business: it sees and returns plain logical types.

        Raises:
            TypeInferenceError: the operator cannot take these inputs.
        """

    @abstractmethod
    def evaluate(self, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> Sequence[np.ndarray]:
        """The reference result with numpy, written for clarity; the definition that compiled code is held to."""

    def macs(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType], attributes: Mapping[str, Any]
    ) -> Dim:
        """Multiply-accumulate operations; 0 for operators that only move or map data."""
        return 0

    def layout(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType], attributes: Mapping[str, Any]
    ) -> Sequence[str]:
        """Layouts of the outputs, given the inputs with theirs.

        By default elementwise operators keep a blocked layout: operands that span the blocked axis have it, the
        others (scalars, size 1 on that axis) are plain. Everything else reads and writes plain tensors.

        Raises:
            EdgeIRError: the operator cannot read these layouts.
        """
        blocked = {t.layout for t in inputs if t is not None and t.layout}
        if not blocked:
            return [""] * len(outputs)
        shown = ", ".join(map(str, inputs))
        if self.pattern is not Pattern.ELEMENTWISE:
            raise EdgeIRError(f"{self.name} reads plain tensors only", got=shown)
        if len(blocked) > 1:
            raise EdgeIRError("inputs have different layouts", got=shown)
        layout = blocked.pop()
        axis = parse_layout(layout)[1]
        for t in inputs:
            if t is not None:
                aligned = axis - (outputs[0].rank - t.rank)
                spans = aligned >= 0 and t.shape[aligned] == outputs[0].shape[axis]
                if bool(t.layout) != spans:
                    raise EdgeIRError(f"exactly the operands that span axis {axis} must be {layout}", got=shown)
        return [layout] * len(outputs)

    def check_layouts(
        self,
        inputs: Sequence[TensorType | None],
        outputs: Sequence[TensorType],
        layouts: Sequence[str],
        attributes: Mapping[str, Any],
    ) -> None:
        """Whether the operator can read these inputs and write outputs in these layouts (if it chooses them).

        Raises:
            EdgeIRError: it cannot.
        """
        raise EdgeIRError(f"{self.name} does not choose layouts", got=", ".join(layouts))

    def normalize(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Attributes in canonical form with defaults filled in.

        Raises:
            EdgeIRError: an attribute is unknown, missing or of the wrong kind.
        """
        for key in attributes:
            if key not in self.attributes:
                raise EdgeIRError(
                    f"{self.name} has no attribute {key!r}", expected=", ".join(self.attributes) or "none", got=key
                )
        result: dict[str, Any] = {}
        for key, spec in self.attributes.items():
            value = attributes.get(key, spec.default)
            if value is REQUIRED:
                raise EdgeIRError(f"{self.name} needs attribute {key!r}", expected=spec.kind.value, got="nothing")
            try:
                result[key] = spec.normalize(value)
            except EdgeIRError as error:
                raise EdgeIRError(
                    error.what, where=f"attribute {key!r} of {self.name}", expected=error.expected, got=error.got
                ) from None
        return result

    def check_arity(self, count: Sequence[object | None]) -> None:
        """Checks the number of inputs, and that required ones are there.

        Raises:
            EdgeIRError: too many, too few, or a required one absent.
        """
        variadic = bool(self.operands) and self.operands[-1].endswith("*")
        fixed = self.operands[:-1] if variadic else self.operands
        expected = "(" + ", ".join(self.operands) + ")"
        if len(count) > len(fixed) and not variadic:
            raise EdgeIRError(f"{self.name} has too many inputs", expected=expected, got=len(count))
        for position, operand in enumerate(fixed):
            if not operand.endswith("?") and (position >= len(count) or count[position] is None):
                raise EdgeIRError(f"{self.name} needs input {operand!r}", expected=expected, got=f"{len(count)} inputs")


_REGISTRY: dict[str, Op] = {}


def register(cls: type[Op]) -> type[Op]:
    """Class decorator: makes the operator known under its name.

    Raises:
        EdgeIRError: the name is taken.
    """
    if cls.name in _REGISTRY:
        raise EdgeIRError("an operator of this name exists", got=cls.name, where=cls.__module__)
    _REGISTRY[cls.name] = cls()
    return cls


def find_op(name: str) -> Op:
    """The operator called `name`.

    Raises:
        EdgeIRError: there is none; the nearest names are given.
    """
    try:
        return _REGISTRY[name]
    except KeyError:
        near = difflib.get_close_matches(name, _REGISTRY, 3)
        hint = f"did you mean {', '.join(near)}?" if near else "import edgeir.ops to register the standard operators"
        raise EdgeIRError("unknown operator", got=name, hint=hint) from None


def registered_ops() -> Iterator[Op]:
    """All operators, by name."""
    return iter([_REGISTRY[name] for name in sorted(_REGISTRY)])
