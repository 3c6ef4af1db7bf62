from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from edgeir.errors import TypeInferenceError
from edgeir.ir import TensorType
from tests.ops.onnx_oracle import infer, run


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_every_value_finds_its_entry(dtype: type) -> None:
    low = int(np.iinfo(dtype).min)
    x = np.arange(low, low + 256).astype(dtype).reshape(16, 16)
    table = np.random.default_rng(0).uniform(-1, 1, 256).astype(np.float32)
    np.testing.assert_array_equal(run("lookup", [x, table]), table.reshape(16, 16))


def test_four_bits() -> None:
    table = np.arange(16, dtype=np.int8) * 3
    x = np.arange(-8, 8).astype(ml_dtypes.int4)
    np.testing.assert_array_equal(run("lookup", [x, table]), table)


def test_types() -> None:
    with pytest.raises(TypeInferenceError, match="table has the wrong shape"):
        infer("lookup", [TensorType("uint4", (3,)), TensorType("int8", (256,))])
    with pytest.raises(TypeInferenceError, match="element type"):
        infer("lookup", [TensorType("int16", (3,)), TensorType("int8", (256,))])
