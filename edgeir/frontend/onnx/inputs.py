"""Inputs of the model: their types, with symbolic dimensions named, and fixed where shapes are given."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from edgeir.errors import EdgeIRError, UnsupportedModelError
from edgeir.frontend.onnx.known_values import LARGEST_VALUE
from edgeir.frontend.onnx.protos import element_type
from edgeir.ir import Dim, Graph, SymbolicDim, TensorType, symbol
from edgeir.ir.dims import parse_dim
from edgeir.ir.dtype import numpy_dtype


def declare_inputs(
    graph: Graph,
    proto: onnx.GraphProto,
    shapes: Mapping[str, Sequence[Dim | str | None]],
    freeze: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Adds the model's inputs to a graph; those with an initializer are weights and left out.

    Returns:
        The frozen inputs, checked.

    Raises:
        UnsupportedModelError: an input is no tensor, or of an element type that the IR lacks.
        EdgeIRError: a dimension is negative, or shapes or frozen inputs do not fit the model.
    """
    weights = {tensor.name for tensor in proto.initializer} | {s.values.name for s in proto.sparse_initializer}
    inputs = [value for value in proto.input if value.name not in weights]
    names = [value.name for value in inputs]
    if len(set(names)) != len(names):
        raise EdgeIRError("two inputs have the same name", got=", ".join(names))
    for name in (*shapes, *freeze):
        if name not in names:
            raise EdgeIRError("the model has no such input", expected=", ".join(names) or "no inputs", got=name)
    symbols = _Symbols()
    dtypes = {value.name: _dtype(value) for value in inputs}
    declared = {value.name: _declared_shape(value, symbols, shapes) for value in inputs}
    for name, shape in shapes.items():
        _fix(name, declared[name], tuple(shape), symbols)
    frozen: dict[str, np.ndarray] = {}
    for name in names:
        shape = tuple(symbols.bound(dim) for dim in declared[name])
        if math.prod(dim for dim in shape if isinstance(dim, int)) > LARGEST_VALUE:
            raise EdgeIRError("an input is too large", where=f"input {name!r}", got=list(shape), expected=LARGEST_VALUE)
        type = TensorType(dtypes[name], shape)
        if name in freeze:
            array = np.asarray(freeze[name])
            if array.dtype != numpy_dtype(type.dtype) or array.ndim != type.rank:
                raise EdgeIRError(
                    "a frozen input does not fit",
                    where=f"input {name!r}",
                    expected=type,
                    got=f"{array.dtype}{array.shape}",
                )
            frozen[name] = array
        else:
            graph.add_input(name, type)
    return frozen


class _Symbols:
    """Names of symbolic dimensions, and what they are fixed to."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._values: dict[str, Dim] = {}

    def named(self, text: str) -> SymbolicDim:
        """The symbol for a `dim_param`: the same for the same text, an identifier of its own for another."""
        if text not in self._names:
            stem = re.sub(r"\W+", "_", text.strip(), flags=re.ASCII).strip("_") or "dim"
            stem = stem if not stem[0].isdigit() else f"d{stem}"
            name, count = stem, 1
            while name in self._names.values():
                count += 1
                name = f"{stem}_{count}"
            self._names[text] = name
        return symbol(self._names[text])

    def fix(self, dim: SymbolicDim, value: Dim, where: str) -> None:
        previous = self._values.setdefault(str(dim), value)
        if previous != value:
            raise EdgeIRError(f"dimension {dim} is given two sizes", where=where, expected=previous, got=value)

    def bound(self, dim: Dim) -> Dim:
        return self._values.get(str(dim), dim) if isinstance(dim, SymbolicDim) else dim


def _dtype(value: onnx.ValueInfoProto) -> str:
    if value.type.WhichOneof("value") != "tensor_type":
        kind = (value.type.WhichOneof("value") or "no type").removesuffix("_type")
        raise UnsupportedModelError("an input is not a tensor", where=f"input {value.name!r}", got=kind)
    try:
        return element_type(value.type.tensor_type.elem_type)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(error.what, where=f"input {value.name!r}") from None


def _declared_shape(
    value: onnx.ValueInfoProto, symbols: _Symbols, shapes: Mapping[str, Sequence[Dim | str | None]]
) -> list[Dim]:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        if value.name not in shapes:
            raise EdgeIRError(
                "the model does not tell an input's rank", where=f"input {value.name!r}", hint="give it with shapes=…"
            )
        return [symbols.named(f"{value.name}_{axis}") for axis in range(len(shapes[value.name]))]
    dims: list[Dim] = []
    for axis, dim in enumerate(tensor.shape.dim):
        text = dim.dim_param.strip()
        if dim.HasField("dim_value") and dim.dim_value < -1:
            raise EdgeIRError("a dimension is negative", where=f"input {value.name!r}", got=dim.dim_value)
        # Exporters write -1 and 0 for sizes that they do not know.
        if dim.HasField("dim_value") and dim.dim_value > 0:
            dims.append(dim.dim_value)
        elif text in ("", "?", "-1"):
            dims.append(symbols.named(f"{value.name}_{axis}"))
        else:
            dims.append(symbols.named(text))
    return dims


def _fix(name: str, declared: Sequence[Dim], wanted: Sequence[Dim | str | None], symbols: _Symbols) -> None:
    where = f"shapes[{name!r}]"
    if len(declared) != len(wanted):
        raise EdgeIRError("a shape has the wrong rank", where=where, expected=list(declared), got=list(wanted))
    for dim, size in zip(declared, wanted, strict=True):
        if size is None or (isinstance(size, int) and size == -1):
            continue
        if isinstance(size, str):
            size = parse_dim(size)
        if isinstance(size, np.integer):
            size = int(size)
        if not isinstance(size, int | SymbolicDim) or isinstance(size, bool) or (isinstance(size, int) and size < 0):
            raise EdgeIRError(
                "not a size", where=where, expected="an integer of at least 0, None or an expression", got=size
            )
        if isinstance(dim, SymbolicDim):
            symbols.fix(dim, size, where)
        elif dim != size:
            raise EdgeIRError("a shape does not fit the model", where=where, expected=list(declared), got=list(wanted))
