"""A template whose configurations crash, hang, or compute something wrong, as their knob says."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tvm import te, tirx

from edgeir.schedules.select import select
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.targets.target import Target

FAULTS = ("none", "crash", "hang", "wrong", "crash_in_kernel", "hang_in_kernel")

SLOW = "slow"
"""Right, but takes a second: not in the space, for tests that look in meanwhile."""


class Faulty:
    """As the first matching template, with a fault. The `number` has no meaning but to make many configurations."""

    name = "faulty"

    def match(self, task: Task, target: Target) -> bool:
        """Whether it is a convolution."""
        return task.anchor == "conv"

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        return {"fault": FAULTS, "number": range(100)}

    def default(self, task: Task, target: Target) -> Config:
        return {"fault": "none", "number": 0}

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        if config["fault"] == "crash":
            os.abort()
        if config["fault"] == "hang":
            time.sleep(3600)
        template = select(task, target)
        if config["fault"] == "none":
            return template.apply(task, template.default(task, target), target)
        placeholders, outputs = task.build()
        shape = task.outputs[0].shape
        result: Any = te.compute(shape, lambda *i: outputs[0](*i) + _spoiler(str(config["fault"]), i), name="spoiled")
        arguments: list[Any] = [*placeholders, result]
        function: Any = te.create_prim_func(arguments)
        return Kernel(function.with_attr("global_symbol", task.name))


def _spoiler(fault: str, index: Sequence[Any]) -> Any:
    if fault == "wrong":
        return tirx.const(0.25, "float32")
    if fault == SLOW:
        # `usleep` returns 0.
        first: Any = tirx.all(*(i == 0 for i in index))
        slept = tirx.call_extern("int32", "usleep", tirx.const(1_000_000, "int32")).astype("float32")
        return tirx.if_then_else(first, slept, tirx.const(0.0, "float32"))
    # Functions of the C library: one ends the process, the other waits for a signal that never comes.
    return tirx.call_extern("float32", "abort" if fault == "crash_in_kernel" else "pause")


FAULTY = Faulty()
