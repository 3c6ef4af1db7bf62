"""How the range of a value is found from samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

from edgeir.errors import EdgeIRError
from edgeir.passes.quantization.observers.entropy import Entropy
from edgeir.passes.quantization.observers.mean_squared_error import MeanSquaredError
from edgeir.passes.quantization.observers.min_max import MinMax
from edgeir.passes.quantization.observers.moving_average import MovingAverage
from edgeir.passes.quantization.observers.observer import Observer
from edgeir.passes.quantization.observers.percentile import Percentile

ObserverName = Literal["min-max", "moving-average", "percentile", "entropy", "mse"]

OBSERVERS: Mapping[str, Callable[[], Observer]] = {
    "min-max": MinMax,
    "moving-average": MovingAverage,
    "percentile": Percentile,
    "entropy": Entropy,
    "mse": MeanSquaredError,
}


def make_observer(name: str) -> Observer:
    """A fresh observer.

    Raises:
        EdgeIRError: there is none of that name.
    """
    if name not in OBSERVERS:
        raise EdgeIRError("no such observer", expected=", ".join(get_args(ObserverName)), got=name)
    return OBSERVERS[name]()


__all__ = ["OBSERVERS", "Observer", "ObserverName", "make_observer"]
