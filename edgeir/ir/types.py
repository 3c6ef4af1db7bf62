"""The type of a value: element type, logical shape, and how it lies in memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgeir.errors import EdgeIRError
from edgeir.ir.dims import Dim, SymbolicDim, bind, ceil_divide, parse_dim, product
from edgeir.ir.dtype import DTYPES, bits

_BLOCK = re.compile(r"([A-Z]+)(\d+)([a-z])\Z")


@dataclass(frozen=True)
class TensorType:
    """`float32[N, 3, 224, 224]`, or with a layout `float32[1, 64, 56, 56]{NCHW16c}`.

    Attributes:
        dtype: element type, one of `edgeir.ir.dtype.DTYPES`.
        shape: logical dimensions, integers or symbolic.
        layout: physical layout, "" for plain row-major. `NCHW16c` splits axis C into blocks of 16 that become the
            innermost axis; the physical shape is (N, ⌈C/16⌉, H, W, 16). Semantics never depend on it.
    """

    dtype: str
    shape: tuple[Dim, ...]
    layout: str = ""

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise EdgeIRError("unknown element type", expected=", ".join(sorted(DTYPES)), got=self.dtype)
        for dim in self.shape:
            if isinstance(dim, bool) or not isinstance(dim, int | SymbolicDim) or (isinstance(dim, int) and dim < 0):
                raise EdgeIRError("not a dimension", expected="an integer of at least 0 or a symbolic Dim", got=dim)
        if self.layout:
            axes, _, _ = parse_layout(self.layout)
            if len(axes) != len(self.shape):
                raise EdgeIRError("layout and rank differ", expected=f"rank {len(axes)} for {self.layout}", got=self)

    @property
    def rank(self) -> int:
        """Number of logical dimensions."""
        return len(self.shape)

    @property
    def is_static(self) -> bool:
        """Whether every dimension is an integer."""
        return all(isinstance(dim, int) for dim in self.shape)

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape as integers.

        Raises:
            EdgeIRError: a dimension is symbolic.
        """
        dims = tuple(dim for dim in self.shape if isinstance(dim, int))
        if len(dims) != len(self.shape):
            raise EdgeIRError("a fixed shape is needed", got=str(self), hint="fix symbolic dimensions with shapes=…")
        return dims

    @property
    def elements(self) -> Dim:
        """Number of logical elements."""
        return product(self.shape)

    @property
    def bytes(self) -> int:
        """Size in memory (padding of blocked layouts included); the shape must be static."""
        count = product(self.physical_shape())
        if not isinstance(count, int):
            raise EdgeIRError("a fixed shape is needed", got=str(self), hint="fix symbolic dimensions with shapes=…")
        return (count * bits(self.dtype) + 7) // 8

    def physical_shape(self) -> tuple[Dim, ...]:
        """The shape of the array in memory."""
        if not self.layout:
            return self.shape
        _, axis, block = parse_layout(self.layout)
        if block == 1:
            return self.shape
        dims = list(self.shape)
        dims[axis] = ceil_divide(dims[axis], block)
        return (*dims, block)

    def with_layout(self, layout: str) -> TensorType:
        """The same logical type in another layout."""
        return replace(self, layout=layout)

    def bind(self, values: Mapping[str, Dim]) -> TensorType:
        """The type with symbols replaced."""
        return replace(self, shape=tuple(bind(dim, values) for dim in self.shape))

    def symbols(self) -> frozenset[str]:
        """The symbols that the shape depends on."""
        return frozenset().union(*(dim.symbols() for dim in self.shape if isinstance(dim, SymbolicDim)))

    def __str__(self) -> str:
        layout = f"{{{self.layout}}}" if self.layout else ""
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]{layout}"


def parse_layout(layout: str) -> tuple[str, int, int]:
    """Splits `NCHW16c` into logical axes, blocked axis and block size: ("NCHW", 1, 16).

    A layout without a block (`NCHW`) has block size 1.

    Raises:
        EdgeIRError: the text is not a layout.
    """
    match = _BLOCK.match(layout)
    if match and match[3].upper() in match[1] and int(match[2]) > 0:
        return match[1], match[1].index(match[3].upper()), int(match[2])
    if layout.isalpha() and layout.isupper() and len(set(layout)) == len(layout):
        return layout, 0, 1
    raise EdgeIRError("not a layout", expected="axis letters and at most one block, as in NCHW16c", got=repr(layout))


_TYPE = re.compile(r"\s*(\w+)\[([^\]]*)\](?:\{(\w+)\})?\s*\Z")


def parse_type(text: str) -> TensorType:
    """Reads a type as `str` prints it.

    Raises:
        EdgeIRError: the text is not a type.
    """
    match = _TYPE.match(text)
    if match is None:
        raise EdgeIRError("not a tensor type", expected="dtype[dim, dim]{layout}", got=repr(text))
    dims = tuple(parse_dim(part) for part in match[2].split(",")) if match[2].strip() else ()
    return TensorType(match[1], dims, match[3] or "")
