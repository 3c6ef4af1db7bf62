"""What a schedule template is given (a task) and what it returns (a kernel)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import tvm
from tvm import te

from edgeir.schedules.attention_problem import Attention
from edgeir.schedules.recurrent_problem import Recurrence
from edgeir.schedules.sparse_storage import SparsePattern

AnchorCompute = Callable[[Sequence[te.Tensor]], Any]
"""Computes the anchor's output tensor (several: in a sequence) from its input tensors (bias excluded: it belongs to the
epilogue)."""


@dataclass(frozen=True)
class TensorSpec:
    """A tensor as it lies in memory: physical shape, dtype and layout (`NCHW`, `NCHW16c`, "" for plain)."""

    shape: tuple[int, ...]
    dtype: str
    layout: str = ""


@dataclass(frozen=True)
class Operand:
    """One argument of the kernel. A constant's value is known at compile time, so a template may pack it."""

    name: str
    spec: TensorSpec
    constant: bool = False


@dataclass(frozen=True)
class Integers:
    """What the constants of an integer anchor allow its kernel.

    Present where the right operand is constant and has no zero point, and the left zero point is constant (that of a
    product may be computed at run time). The anchor then computes raw sums Σ x·w (a convolution over an input whose
    border holds `left_zero`); what the left zero point adds, a constant for each output channel, belongs to the
    epilogue as a bias does.

    Attributes:
        left_zero: the left operand's zero point; 0 where it is computed at run time.
        pairs_fit: whether |w0| + |w1| ≤ 128 for each pair of neighbouring input channels (2j, 2j + 1), or of
            neighbours along K: then 255·(|w0| + |w1|) fits 16 bits.
        symmetric: whether no weight is −128: two products of signed bytes then fit 16 bits.
        headroom: bits by which every raw sum of a convolution can be shifted left within 32 bits: 6, 2 or 0, whatever
            kernels have a use for.
        floats_fit: whether all floats that the kernel quantizes are numbers within ±2^30.
    """

    left_zero: int
    pairs_fit: bool
    symmetric: bool
    headroom: int = 0
    floats_fit: bool = False


class ZeroInput(int):
    """A zero point that is computed when the kernel runs: which of the anchor's inputs it is."""


class PackedShape(tuple[int, ...]):
    """The shape of a packed constant whose elements are not of the constant's dtype.

    Attributes:
        dtype: their dtype.
    """

    dtype: str

    def __new__(cls, shape: Sequence[int], dtype: str) -> PackedShape:
        """The shape, an ordinary tuple otherwise."""
        packed = super().__new__(cls, shape)
        packed.dtype = dtype
        return packed


class Build(Protocol):
    """Lays out the kernel's whole computation in TE.

    Args:
        anchor: how to compute the anchor (None: the plain definition).
        packed: for a constant operand's index, the shape of its packed form, which then is the shape of the
            placeholder handed to `anchor`; a `PackedShape` where its dtype differs, too.

    Returns:
        The placeholders, one per operand in order, and the output tensors. A bias, the epilogue (elementwise and
        broadcast operators after the anchor) and the prologue (injective operators before it) are TE stages of
        their own; the anchor's stage is whatever `anchor` returned.
    """

    def __call__(
        self, anchor: AnchorCompute | None = None, packed: Mapping[int, tuple[int, ...]] | None = None
    ) -> tuple[list[te.Tensor], list[te.Tensor]]:
        """Placeholders and outputs."""
        ...


View = Callable[[te.Tensor, Sequence[Any]], Any]
"""From the placeholder of a packed constant and an index into the constant to the constant's element."""


class CompressedBuild(Protocol):
    """Lays out the whole computation as `Build` does, the compressed constant packed.

    Args:
        anchor: how to compute the anchor; its second input is the decoded constant, a stage of the body.
        shape: shape of the packed constant.
        view: how the body reads the packed constant.
    """

    def __call__(
        self, anchor: AnchorCompute, shape: tuple[int, ...], view: View
    ) -> tuple[list[te.Tensor], list[te.Tensor]]:
        """Placeholders and outputs."""
        ...


@dataclass(frozen=True)
class Compressed:
    """A constant right operand that the body decodes for the anchor alone: integers, codes of logarithms, a table.

    Attributes:
        operand: index of the operand that holds the numbers of few bits.
        bits: bits of one of them; in memory 4-bit numbers take a byte unless the template packs them.
        build: lays out the computation.
    """

    operand: int
    bits: int
    build: CompressedBuild


@dataclass(frozen=True)
class Task:
    """One fused node, seen from a schedule template.

    Attributes:
        name: symbol name of the kernel.
        anchor: op name of the anchor (`conv`, `matmul`, `softmax`, …), or the pattern (`elementwise`,
            `injective`, `reduction`, `opaque`) of a group that has none.
        attributes: the anchor's attributes (for `conv`: strides, padding, dilations, groups).
        anchor_inputs: the anchor's inputs without bias; physical shapes.
        anchor_output: the anchor's output.
        anchor_operands: for each anchor input, the index of the operand that it is read from directly, or None
            when the body computes it.
        operands: the kernel's arguments, in order.
        outputs: the kernel's results, in order.
        build: lays out the computation.
        key: text that identifies the computation: equal keys, equal kernels.
        integers: of an integer anchor (`conv_integer`, `matmul_integer`): what its constants allow.
        compressed: the constant from which the body computes the anchor's right operand, if it does.
        sparsity: the pattern of the anchor's constant weight where most of it is zeros.
        recurrence: the recurrent layer that the anchor is.
        attention: the attention whose softmax the anchor is, products included.
        zeros: of an integer product: the zero points of its left and right operand, 0 where there is none.
    """

    name: str
    anchor: str
    attributes: Mapping[str, Any]
    anchor_inputs: tuple[TensorSpec, ...]
    anchor_output: TensorSpec
    anchor_operands: tuple[int | None, ...]
    operands: tuple[Operand, ...]
    outputs: tuple[TensorSpec, ...]
    build: Build
    key: str
    integers: Integers | None = None
    compressed: Compressed | None = None
    sparsity: SparsePattern | None = None
    recurrence: Recurrence | None = None
    attention: Attention | None = None
    zeros: tuple[int | ZeroInput, int | ZeroInput] | None = None


@dataclass(frozen=True)
class Kernel:
    """A scheduled kernel.

    Attributes:
        func: the scheduled PrimFunc; arguments: operands in order, then outputs.
        pack: for a constant operand's index, how its (physical) array is packed before it is stored.
        workspace_bytes: temporary memory that the kernel allocates when it runs.
    """

    func: tvm.tirx.PrimFunc
    pack: Mapping[int, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)
    workspace_bytes: int = 0
