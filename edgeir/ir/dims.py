"""Tensor dimensions: integers, or integer expressions over named symbols.

A symbolic dimension is a polynomial with integer coefficients over atoms; an atom is a symbol or the floor of a
quotient. Equal expressions have equal canonical forms, so `==` is structural equality after normalisation.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from edgeir.errors import EdgeIRError

Monomial: TypeAlias = tuple["Atom", ...]


@dataclass(frozen=True, order=True)
class Atom:
    """A symbol, or the text of a floor quotient (whose parts the dimension that uses it keeps aside)."""

    text: str


class SymbolicDim:
    """An integer expression over named symbols. Immutable; build it with `symbol` and arithmetic."""

    __slots__ = ("_hash", "_quotients", "_terms")

    def __init__(self, terms: Mapping[Monomial, int], quotients: Mapping[Atom, tuple[Dim, Dim]]) -> None:
        self._terms: dict[Monomial, int] = {m: c for m, c in sorted(terms.items()) if c}
        self._quotients = dict(quotients)
        self._hash = hash(tuple(self._terms.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SymbolicDim) and self._terms == other._terms

    def __hash__(self) -> int:
        return self._hash

    def __add__(self, other: Dim) -> Dim:
        left, right = _parts(self), _parts(other)
        terms = dict(left[0])
        for monomial, coefficient in right[0].items():
            terms[monomial] = terms.get(monomial, 0) + coefficient
        return _make(terms, left[1] | right[1])

    __radd__ = __add__

    def __mul__(self, other: Dim) -> Dim:
        left, right = _parts(self), _parts(other)
        terms: dict[Monomial, int] = {}
        for m1, c1 in left[0].items():
            for m2, c2 in right[0].items():
                monomial = tuple(sorted(m1 + m2))
                terms[monomial] = terms.get(monomial, 0) + c1 * c2
        return _make(terms, left[1] | right[1])

    __rmul__ = __mul__

    def __neg__(self) -> Dim:
        return self * -1

    def __sub__(self, other: Dim) -> Dim:
        return self + other * -1

    def __rsub__(self, other: int) -> Dim:
        return -self + other

    def __floordiv__(self, other: Dim) -> Dim:
        return floor_divide(self, other)

    def __rfloordiv__(self, other: int) -> Dim:
        return floor_divide(other, self)

    def __str__(self) -> str:
        out = ""
        # The constant term comes last, as people write it.
        for monomial, coefficient in sorted(self._terms.items(), key=lambda item: (not item[0], item[0])):
            magnitude = abs(coefficient)
            factors = [atom.text for atom in monomial]
            if magnitude != 1 or not factors:
                factors.insert(0, str(magnitude))
            text = "*".join(factors)
            if not out:
                out = text if coefficient > 0 else f"-{text}"
            else:
                out += (" + " if coefficient > 0 else " - ") + text
        return out

    __repr__ = __str__

    def symbols(self) -> frozenset[str]:
        """The names that the expression depends on."""
        found: set[str] = set()
        for monomial in self._terms:
            for atom in monomial:
                if atom in self._quotients:
                    for part in self._quotients[atom]:
                        found |= part.symbols() if isinstance(part, SymbolicDim) else set()
                else:
                    found.add(atom.text)
        return frozenset(found)

    def lower_bound(self) -> int | None:
        """The least value when every symbol is at least 1; None where that is not plain from the terms' signs."""
        if self._quotients or any(coefficient < 0 for monomial, coefficient in self._terms.items() if monomial):
            return None
        return sum(self._terms.values())

    def linear(self) -> tuple[str, int, int] | None:
        """(symbol, factor, offset) of an expression `factor·symbol + offset`; None for any other."""
        atoms = [monomial for monomial in self._terms if monomial]
        if self._quotients or len(atoms) != 1 or len(atoms[0]) != 1:
            return None
        return atoms[0][0].text, self._terms[atoms[0]], self._terms.get((), 0)

    def bind(self, values: Mapping[str, Dim]) -> Dim:
        """The expression with symbols replaced by their values."""
        total: Dim = 0
        for monomial, coefficient in self._terms.items():
            product: Dim = coefficient
            for atom in monomial:
                if atom in self._quotients:
                    numerator, denominator = self._quotients[atom]
                    product = product * floor_divide(bind(numerator, values), bind(denominator, values))
                else:
                    product = product * values.get(atom.text, symbol(atom.text))
            total = total + product
        return total


Dim: TypeAlias = int | SymbolicDim


def _parts(dim: Dim) -> tuple[dict[Monomial, int], dict[Atom, tuple[Dim, Dim]]]:
    return (dim._terms, dim._quotients) if isinstance(dim, SymbolicDim) else ({(): dim}, {})


def _make(terms: dict[Monomial, int], quotients: dict[Atom, tuple[Dim, Dim]]) -> Dim:
    terms = {m: c for m, c in terms.items() if c}
    if not terms:
        return 0
    if list(terms) == [()]:
        return terms[()]
    used = {atom for monomial in terms for atom in monomial}
    return SymbolicDim(terms, {atom: parts for atom, parts in quotients.items() if atom in used})


_NAME = re.compile(r"[A-Za-z_][\w.]*\Z")


def symbol(name: str) -> SymbolicDim:
    """The dimension called `name` (letters, digits, `_` and `.`, not starting with a digit)."""
    if not _NAME.match(name):
        raise EdgeIRError("not a name for a dimension", expected="letters, digits, '_' and '.'", got=repr(name))
    return SymbolicDim({(Atom(name),): 1}, {})


def floor_divide(numerator: Dim, denominator: Dim) -> Dim:
    """⌊numerator / denominator⌋, exact where the division is; dimensions are taken to be positive."""
    if denominator == 0:
        raise EdgeIRError("division of a dimension by zero", got=f"{numerator}//0")
    if isinstance(numerator, int) and isinstance(denominator, int):
        return numerator // denominator
    if denominator == 1:
        return numerator
    if numerator == denominator:
        return 1
    top, top_quotients = _parts(numerator)
    bottom, bottom_quotients = _parts(denominator)
    exact: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    if len(bottom) == 1:
        ((divisor, scale),) = bottom.items()
        for monomial, coefficient in top.items():
            remaining = _remove(monomial, divisor)
            if remaining is not None and coefficient % scale == 0:
                exact[remaining] = exact.get(remaining, 0) + coefficient // scale
            else:
                rest[monomial] = coefficient
    else:
        rest = dict(top)
    quotient = _make(exact, top_quotients)
    if not rest:
        return quotient
    remainder = _make(rest, top_quotients)
    if isinstance(remainder, int) and isinstance(denominator, int):
        return quotient + remainder // denominator
    # Parentheses of its own let the quotient stand as a factor in text.
    atom = Atom(f"({_atom_text(remainder)}//{_atom_text(denominator)})")
    quotients = top_quotients | bottom_quotients | {atom: (remainder, denominator)}
    return quotient + _make({(atom,): 1}, quotients)


def _atom_text(dim: Dim) -> str:
    text = str(dim)
    alone = isinstance(dim, int) or (len(_parts(dim)[0]) == 1 and "*" not in text)
    return text if alone and not text.startswith("-") else f"({text})"


def _remove(monomial: Monomial, divisor: Monomial) -> Monomial | None:
    left = list(monomial)
    for atom in divisor:
        if atom not in left:
            return None
        left.remove(atom)
    return tuple(left)


def ceil_divide(numerator: Dim, denominator: Dim) -> Dim:
    """⌈numerator / denominator⌉."""
    return floor_divide(numerator + denominator - 1, denominator)


def bind(dim: Dim, values: Mapping[str, Dim]) -> Dim:
    """`dim` with symbols replaced by their values; integers stay as they are."""
    return dim.bind(values) if isinstance(dim, SymbolicDim) else dim


def product(dims: Iterable[Dim]) -> Dim:
    """The product of dimensions: the number of elements of a shape."""
    return math.prod(dims, start=1)  # type: ignore[arg-type]


def is_static(dim: Dim) -> bool:
    """Whether the dimension is a plain integer."""
    return isinstance(dim, int)


def solve(equations: Iterable[tuple[Dim, int]]) -> dict[str, int]:
    """Sizes of symbols for which every dimension has its size.

    Args:
        equations: pairs of a dimension and its size. A symbol is found from an equation that is linear in it.

    Raises:
        EdgeIRError: no sizes fulfil all equations, or a symbol cannot be found from them.
    """
    sizes: dict[str, int] = {}
    pending = list(equations)
    while pending:
        remaining = []
        for dim, size in pending:
            bound = bind(dim, sizes)
            if isinstance(bound, int):
                if bound != size:
                    raise EdgeIRError("a dimension does not fit its size", expected=f"{dim} = {bound}", got=size)
                continue
            form = bound.linear()
            if form is None:
                remaining.append((dim, size))
                continue
            name, factor, offset = form
            if (size - offset) % factor or (size - offset) // factor < 0:
                raise EdgeIRError("a dimension does not fit its size", expected=str(dim), got=size)
            sizes[name] = (size - offset) // factor
        if len(remaining) == len(pending):
            unknown = ", ".join(str(dim) for dim, _ in remaining)
            raise EdgeIRError("dimensions cannot be solved for their symbols", got=unknown)
        pending = remaining
    return sizes


_TOKEN = re.compile(r"\s*(//|[-+*()]|\d+|[A-Za-z_][\w.]*)")


def parse_dim(text: str) -> Dim:
    """Reads a dimension as `str` prints it.

    Raises:
        EdgeIRError: the text is not an integer expression over names.
    """
    tokens: list[str] = []
    position = 0
    stripped = text.rstrip()
    while position < len(stripped):
        match = _TOKEN.match(stripped, position)
        if match is None:
            raise EdgeIRError("not a dimension", expected="an integer expression over names", got=repr(text))
        tokens.append(match[1])
        position = match.end()
    parser = _DimParser(tokens, text)
    result = parser.sum()
    if parser.tokens:
        raise parser.error()
    return result


_LONGEST_NUMBER = 100
_DEEPEST = 50
"""Levels of parentheses and signs in a dimension's text."""


class _DimParser:
    def __init__(self, tokens: list[str], text: str) -> None:
        self.tokens = tokens[::-1]
        self.text = text
        self.depth = 0

    def error(self) -> EdgeIRError:
        return EdgeIRError("not a dimension", expected="an integer expression over names", got=repr(self.text))

    def peek(self) -> str:
        return self.tokens[-1] if self.tokens else ""

    def sum(self) -> Dim:
        negative = self.peek() == "-"
        if negative:
            self.tokens.pop()
        total = self.term()
        total = total * -1 if negative else total
        while self.peek() in ("+", "-"):
            sign = 1 if self.tokens.pop() == "+" else -1
            total = total + self.term() * sign
        return total

    def term(self) -> Dim:
        value = self.factor()
        while self.peek() in ("*", "//"):
            value = value * self.factor() if self.tokens.pop() == "*" else floor_divide(value, self.factor())
        return value

    def factor(self) -> Dim:
        token = self.tokens.pop() if self.tokens else ""
        if token.isdigit() and len(token) <= _LONGEST_NUMBER:
            return int(token)
        if token in ("(", "-"):
            self.depth += 1
            if self.depth > _DEEPEST:
                raise self.error()
            value = self.sum() if token == "(" else self.factor() * -1
            if token == "(" and (not self.tokens or self.tokens.pop() != ")"):
                raise self.error()
            self.depth -= 1
            return value
        if _NAME.match(token):
            return symbol(token)
        raise self.error()
