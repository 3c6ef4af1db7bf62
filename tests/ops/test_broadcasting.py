from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from edgeir.errors import TypeInferenceError
from edgeir.ir import symbol
from edgeir.ops.broadcasting import broadcast_shapes, broadcasts_to


@given(st.integers(1, 4).flatmap(lambda count: mutually_broadcastable_shapes(num_shapes=count, min_side=0)))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_agrees_with_numpy(shapes: object) -> None:
    inputs = shapes.input_shapes  # type: ignore[attr-defined]
    assert broadcast_shapes(*inputs) == np.broadcast_shapes(*inputs)
    assert all(broadcasts_to(shape, np.broadcast_shapes(*inputs)) for shape in inputs)


@given(st.lists(st.lists(st.integers(0, 3), max_size=3).map(tuple), min_size=2, max_size=2))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_refuses_what_numpy_refuses(shapes: list[tuple[int, ...]]) -> None:
    try:
        expected = np.broadcast_shapes(*shapes)
    except ValueError:
        with pytest.raises(TypeInferenceError):
            broadcast_shapes(*shapes)
    else:
        assert broadcast_shapes(*shapes) == expected
        assert broadcasts_to(shapes[0], shapes[1]) == (expected == shapes[1])


def test_symbols() -> None:
    n = symbol("N")
    assert broadcast_shapes((n, 1), (1, 3)) == (n, 3)
    assert broadcast_shapes((n + 1,), (1 + n,)) == (n + 1,)
    assert not broadcasts_to((n,), (3,))
    with pytest.raises(TypeInferenceError, match="N and 3 at axis 0"):
        broadcast_shapes((n,), (3,))
