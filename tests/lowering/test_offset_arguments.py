"""Kernels whose arguments may begin inside a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import tirx

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.lowering.module import copy_function
from edgeir.lowering.offset_arguments import with_offset_arguments


def compiled(dtype: str, indices: list[int]) -> Any:
    function = with_offset_arguments(copy_function((64,), dtype, "copy"), indices)
    target: Any = "llvm"  # TVM takes the name; its annotation says less
    return tvm.compile(function.with_attr("global_symbol", "copy"), target)["copy"]


def part(whole: Any, dtype: str, offset: int) -> Any:
    return whole._create_view((64,), dtype, offset)


@pytest.mark.parametrize("dtype", ["float32", "int8", "int64"])
def test_offsets_of_arguments_are_honoured(dtype: str) -> None:
    values = np.random.default_rng(0).integers(-100, 100, 192).astype(dtype)
    source, target = tvm.runtime.tensor(values), tvm.runtime.tensor(np.zeros(192, dtype))
    size = 64 * values.itemsize
    copy = compiled(dtype, [0, 1])
    copy(part(source, dtype, 2 * size), part(target, dtype, size))
    np.testing.assert_array_equal(target.numpy(), np.concatenate([0 * values[:64], values[128:], 0 * values[:64]]))
    copy(part(source, dtype, 0), part(target, dtype, 0))
    np.testing.assert_array_equal(target.numpy()[:64], values[:64])


def test_offsets_are_refused_where_they_were_not_declared_or_are_misaligned() -> None:
    source, target = (tvm.runtime.tensor(np.zeros(192, np.float32)) for _ in range(2))
    copy = compiled("float32", [1])
    with pytest.raises(ValueError, match="byte_offset"):
        copy(part(source, "float32", 64), part(target, "float32", 0))
    with pytest.raises((ValueError, RuntimeError)):
        copy(part(source, "float32", 0), part(target, "float32", 4))


def test_addresses_of_arguments_are_refused() -> None:
    function: Any = copy_function((64,), "float32", "copy")
    address: Any = tirx.call_intrin("handle", "tirx.tvm_access_ptr", tirx.type_annotation("float32"), *[
        function.params[0], 0, 64, 1])  # fmt: skip
    touched = tirx.PrimFunc(function.params, tirx.Evaluate(address), None, function.attrs)
    with pytest.raises(NotImplementedError, match="address"):
        with_offset_arguments(touched, [0])
    with_offset_arguments(touched, [1])
