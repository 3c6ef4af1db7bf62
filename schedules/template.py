"""The contract of a schedule template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from edgeir.schedules.task import Kernel, Task
from edgeir.targets.target import Target

Config: TypeAlias = Mapping[str, int | str | bool]
"""One point of a template's search space: a value for each knob. Plain data, so that a record can hold it."""


class Template(Protocol):
    """Turns one class of tasks into good code for one class of machines.

    `default` must be good without any tuning: it computes the knobs from the target's vector width, register
    count and caches. `apply` must accept every config of `space`, and raise `EdgeIRError` for any other.
    """

    name: str

    def match(self, task: Task, target: Target) -> bool:
        """Whether this template can schedule the task on the target."""
        ...

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """The values that each knob may take."""
        ...

    def default(self, task: Task, target: Target) -> Config:
        """The knobs to use without tuning, computed from the target's description."""
        ...

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The scheduled kernel."""
        ...


@runtime_checkable
class EstimatedTemplate(Template, Protocol):
    """A template that comes before those after it only where it is estimated to be faster."""

    def faster(self, task: Task, target: Target) -> bool:
        """Whether the default is estimated to beat the other templates, for a task that matches."""
        ...
