"""What a caller gives as inputs, checked against an artifact's description of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.runtime.dtypes import numpy_dtype
from edgeir.runtime.manifest import TensorSpec


def checked_inputs(specs: Sequence[TensorSpec], inputs: Mapping[str, Any]) -> list[np.ndarray]:
    """The inputs in the order of their specs, each of its dtype and shape.

    Raises:
        EdgeIRError: a name is missing or unknown, or an array has the wrong dtype or shape.
    """
    if inputs.keys() != {spec.name for spec in specs}:
        raise wrong_names([spec.name for spec in specs], inputs)
    return [converted(inputs[spec.name], spec) for spec in specs]


def wrong_names(expected: Sequence[str], inputs: Mapping[str, Any]) -> EdgeIRError:
    """The error that names the inputs missing or unknown."""
    missing = [name for name in expected if name not in inputs]
    unknown = [str(name) for name in inputs if name not in expected]
    what = f"Missing inputs: {', '.join(missing)}." if missing else f"Unknown inputs: {', '.join(unknown)}."
    return EdgeIRError(what, where="Session.run", expected=", ".join(expected), got=", ".join(map(str, inputs)))


def converted(value: Any, spec: TensorSpec) -> np.ndarray:
    """`value` as an array of the input's dtype and shape, without any change of an array's dtype."""
    dtype = numpy_dtype(spec.dtype)
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise _wrong_value(spec, f"{type(value).__name__}: {error}") from error
    if array.dtype != dtype and isinstance(value, bool | int | float | list | tuple):
        array = _from_python(array, spec)
    if array.dtype != dtype:
        raise _wrong_value(
            spec, f"{array.dtype} of shape {array.shape}", hint=f"convert it with .astype({spec.dtype!r})"
        )
    if array.shape != spec.shape:
        raise _wrong_value(spec, f"{array.dtype} of shape {array.shape}")
    return array


def _from_python(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """Python numbers, which numpy has made int64, float64 or bool, as the input's dtype if it can hold them."""
    dtype = numpy_dtype(spec.dtype)
    if array.size == 0:
        return array.astype(dtype)
    floating = "float" in spec.dtype
    if array.dtype.kind not in ("iuf" if floating else "iu") or dtype.kind == "b":
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        converted = array.astype(dtype)
    if floating:
        held = bool(np.array_equal(np.isfinite(converted.astype(np.float64)), np.isfinite(array)))
    else:
        held = bool(np.array_equal(converted.astype(array.dtype), array))
    if not held:
        raise _wrong_value(spec, f"values that {spec.dtype} cannot hold")
    return converted


def _wrong_value(spec: TensorSpec, got: str, hint: str | None = None) -> EdgeIRError:
    return EdgeIRError(
        f"Input {spec.name!r} has the wrong type or shape.",
        where=f"Session.run, input {spec.name!r}",
        expected=f"{spec.dtype} of shape {spec.shape}",
        got=got,
        hint=hint,
    )
