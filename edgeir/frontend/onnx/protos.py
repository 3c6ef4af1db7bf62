"""ONNX protobuf messages as numpy arrays, Python values and IR types."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from edgeir.errors import EdgeIRError, UnsupportedModelError
from edgeir.frontend.onnx.external_data import is_external, read_external
from edgeir.frontend.onnx.known_values import LARGEST_VALUE
from edgeir.ir import TensorType
from edgeir.ir.dtype import dtype_name, numpy_dtype


def element_type(code: int) -> str:
    """IR name of an ONNX element type.

    Raises:
        UnsupportedModelError: strings, complex numbers, and types that numpy has no form of.
    """
    try:
        return dtype_name(helper.tensor_dtype_to_np_dtype(code))
    except (EdgeIRError, KeyError, TypeError, ValueError):
        names = TensorProto.DataType
        name = names.Name(code).lower() if code in names.values() else str(code)  # type: ignore[arg-type]
        raise UnsupportedModelError(f"element type {name} is not supported") from None


def element_code(dtype: str) -> int:
    """ONNX element type of an IR dtype."""
    return int(helper.np_dtype_to_tensor_dtype(numpy_dtype(dtype)))


def tensor_array(tensor: TensorProto, folder: Any = None) -> np.ndarray:
    """The array of a tensor.

    Raises:
        UnsupportedModelError: an element type that the IR lacks.
        EdgeIRError: dimensions are negative or too large, or the data does not fit them.
    """
    where = f"tensor {tensor.name!r}"
    element_type(tensor.data_type)
    elements = 1
    for dim in tensor.dims:
        if dim < 0:
            raise EdgeIRError("a dimension is negative", where=where, got=list(tensor.dims))
        elements *= dim
    if elements > LARGEST_VALUE:
        raise EdgeIRError("the tensor is too large", where=where, got=list(tensor.dims))
    if is_external(tensor):
        copied = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        copied.raw_data = read_external(tensor, folder)
        tensor = copied
    try:
        array = numpy_helper.to_array(tensor)
    except Exception as error:  # numpy raises several types for data that does not fit.
        raise EdgeIRError("tensor data does not fit its dimensions", where=where, got=str(error)) from None
    if array.shape != tuple(tensor.dims):
        raise EdgeIRError("tensor data does not fit its dimensions", where=where, expected=list(tensor.dims))
    return array


def sparse_array(sparse: onnx.SparseTensorProto) -> np.ndarray:
    """A sparse tensor as a dense array.

    Raises:
        EdgeIRError: indices are out of range, or the dense form is too large.
    """
    values, indices = tensor_array(sparse.values), tensor_array(sparse.indices)
    shape = tuple(sparse.dims)
    where = f"sparse tensor {sparse.values.name!r}"
    if float(np.prod([float(dim) for dim in shape])) > 1 << 26:
        raise EdgeIRError("the sparse tensor is too large to be made dense", where=where, got=list(shape))
    dense = np.zeros(shape, values.dtype)
    try:
        if indices.ndim == 2:
            dense[tuple(indices.T)] = values
        else:
            dense.reshape(-1)[indices] = values
    except (IndexError, ValueError) as error:
        raise EdgeIRError("indices of a sparse tensor do not fit", where=where, got=str(error)) from None
    return dense


def attribute_value(attribute: AttributeProto, folder: Any = None) -> Any:
    """The Python value of an attribute: text for strings, arrays for tensors, protos for graphs."""
    kinds = AttributeProto
    match attribute.type:
        case kinds.FLOAT:
            return attribute.f
        case kinds.INT:
            return attribute.i
        case kinds.STRING:
            return _text(attribute.s)
        case kinds.TENSOR:
            return tensor_array(attribute.t, folder)
        case kinds.SPARSE_TENSOR:
            return sparse_array(attribute.sparse_tensor)
        case kinds.FLOATS:
            return list(attribute.floats)
        case kinds.INTS:
            return list(attribute.ints)
        case kinds.STRINGS:
            return [_text(item) for item in attribute.strings]
        case kinds.GRAPH:
            return attribute.g
    return helper.get_attribute_value(attribute)


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")


def type_proto(type: TensorType | None) -> onnx.TypeProto:
    """An IR type as ONNX writes it; None gives an empty message."""
    if type is None:
        return onnx.TypeProto()
    shape = [dim if isinstance(dim, int) else str(dim) for dim in type.shape]
    return helper.make_tensor_type_proto(element_code(type.dtype), shape)
