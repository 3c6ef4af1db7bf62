"""Applies a node's computation to tensors, converting element types that are stored differently."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeir.ir.types import TensorType
from edgeir.lowering import te
from edgeir.lowering.compute.registry import Call, find_compute
from edgeir.lowering.compute.storage import computed, decoder, encode, stored
from edgeir.lowering.compute.tables import Tables

# These operators move elements without reading them, or read the stored form themselves.
_ON_STORED = frozenset(
    [
        "cast",
        "bit_cast",
        "reshape",
        "expand",
        "tile",
        "transpose",
        "slice",
        "concat",
        "gather",
        "gather_elements",
        "gather_nd",
        "layout_cast",
    ]
)


def apply(call: Call) -> list[te.Tensor]:
    """The result tensors of an operator, in their physical shapes and stored element types.

    Raises:
        UnsupportedModelError: the operator has no computation.
        EdgeIRError: a dimension is symbolic, or the operator cannot be compiled for these types.
    """
    function = find_compute(call.op)
    types = [*(t for t in call.types if t is not None), *call.outputs]
    if call.op in _ON_STORED or all(computed(t.dtype) == t.dtype for t in types):
        results = function(_stored(call))
        return list(results) if isinstance(results, list | tuple) else [results]
    inner = Call(
        call.op,
        [_decoded(t, type, call.tables) for t, type in zip(call.tensors, call.types, strict=True)],
        [_widened(type) for type in call.types],
        [_widened_scalar(scalar) for scalar in call.scalars],
        call.attributes,
        [widened for type in call.outputs if (widened := _widened(type)) is not None],
        call.tables,
        call.outputs[0].dtype,
    )
    results = function(inner)
    results = list(results) if isinstance(results, list | tuple) else [results]
    return [_encoded(t, type) for t, type in zip(results, call.outputs, strict=True)]


def _stored(call: Call) -> Call:
    """The call with scalars as their stored bits; types keep their names."""
    scalars = [None if s is None else stored(s) for s in call.scalars]
    return replace(call, scalars=scalars)


def _widened(type: TensorType | None) -> TensorType | None:
    return None if type is None else replace(type, dtype=computed(type.dtype))


def _widened_scalar(scalar: np.ndarray | None) -> np.ndarray | None:
    return None if scalar is None else scalar.astype(computed(scalar.dtype.name))


def _decoded(tensor: te.Tensor | None, type: TensorType | None, tables: Tables) -> te.Tensor | None:
    if tensor is None or type is None or computed(type.dtype) == type.dtype:
        return tensor
    decode = decoder(type.dtype, tables)
    return te.compute(tensor.shape, lambda *i: decode(tensor(*i)), name="decode")


def _encoded(tensor: te.Tensor, type: TensorType) -> te.Tensor:
    if computed(type.dtype) == type.dtype:
        return tensor
    return te.compute(tensor.shape, lambda *i: encode(tensor(*i), type.dtype), name="encode")
