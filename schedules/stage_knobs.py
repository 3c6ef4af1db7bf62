"""The knobs of schedules that follow from a computation's stages: elementwise work, reductions, softmax, pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeir.errors import EdgeIRError
from edgeir.schedules.template import Config
from edgeir.targets.target import Target

BY_LENGTH = 0
"""As many vectors as divide the axis."""

ACCUMULATORS = (1, 2, 4, 8)
VECTORS = (BY_LENGTH, 1, 2, 3, 4, 8)
PARALLEL = ("auto", "always", "never")


@dataclass(frozen=True)
class StageKnobs:
    """What may be chosen.

    Attributes:
        accumulators: vectors of partial results of a long reduction along contiguous memory.
        row_vectors: vectors of a piece of a row where the contiguous axis is one that stages share.
        result_vectors: vectors of results that a reduction across memory computes at once.
        parallel: whether the cores are used: where the work is worth it, always, or never.
    """

    accumulators: int = 4
    row_vectors: int = BY_LENGTH
    result_vectors: int = BY_LENGTH
    parallel: str = "auto"

    @staticmethod
    def space(target: Target, names: Sequence[str]) -> Mapping[str, Sequence[int | str | bool]]:
        """The values of some of the knobs; `parallel` only where there are several cores."""
        values: dict[str, Sequence[int | str | bool]] = {
            "accumulators": ACCUMULATORS,
            "row_vectors": VECTORS,
            "result_vectors": VECTORS,
            "parallel": PARALLEL,
        }
        return {name: values[name] for name in names if name != "parallel" or target.cores > 1}

    @staticmethod
    def from_config(config: Config, space: Mapping[str, Sequence[int | str | bool]], where: str) -> StageKnobs:
        """The knobs of a configuration; those that it leaves out have their defaults.

        Raises:
            EdgeIRError: a knob or a value is not in the space.
        """
        check_given(config, space, where)
        return StageKnobs(**config)  # pyright: ignore[reportArgumentType]


def check_given(config: Config, space: Mapping[str, Sequence[int | str | bool]], where: str) -> None:
    """Raises `EdgeIRError` unless the knobs that are given are in the space; others may be left out."""
    for name, value in config.items():
        if name not in space or value not in space[name]:
            raise EdgeIRError("wrong knobs", where=where, expected=dict(space), got=dict(config))


DEFAULT = StageKnobs()
