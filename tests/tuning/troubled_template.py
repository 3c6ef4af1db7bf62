"""A template of many configurations, a share of which crash, hang, or compute something wrong and do that fast."""

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
from tests.lowering.plain_schedule import plain

ERRORS = {
    "crash_in_kernel": "crash",
    "hang_in_kernel": "timeout",
    "wrong": "wrong",
    "crash": "crash",
    "hang": "timeout",
}
"""Fault → how its measurement must be recorded. `crash` and `hang` meet the process that builds."""


class Troubled:
    """Configuration 0, the default, is a plain loop nest; every `period`-th of `count` is faulty; others are scheduled.

    A faulty kernel writes a constant and does nothing else: by its time alone it would win.
    """

    name = "troubled"

    def __init__(self, count: int, period: int) -> None:
        self.count, self.period = count, period

    def fault(self, number: int) -> str:
        """What is wrong with a configuration, one of `ERRORS`; "" if nothing is."""
        place, rest = divmod(number, self.period)
        return list(ERRORS)[place % len(ERRORS)] if rest == self.period - 1 else ""

    def match(self, task: Task, target: Target) -> bool:
        return task.anchor == "conv"

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        return {"number": range(self.count)}

    def default(self, task: Task, target: Target) -> Config:
        return {"number": 0}

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        number = int(config["number"])
        if number == 0:
            return plain(task).kernel
        fault = self.fault(number)
        if fault == "crash":
            os.abort()
        if fault == "hang":
            time.sleep(3600)
        if not fault:
            template = select(task, target)
            return template.apply(task, template.default(task, target), target)
        # Functions of the C library: one ends the process, the other waits for a signal that never comes.
        value = {
            "wrong": tirx.const(0.25, "float32"),
            "crash_in_kernel": tirx.call_extern("float32", "abort"),
            "hang_in_kernel": tirx.call_extern("float32", "pause"),
        }[fault]
        placeholders, _ = task.build()
        arguments: list[Any] = [*placeholders, te.compute(task.outputs[0].shape, lambda *_: value, name="spoiled")]
        function: Any = te.create_prim_func(arguments)
        return Kernel(function.with_attr("global_symbol", task.name))


TEN_PERCENT = Troubled(50, 10)
ONE_PERCENT = Troubled(500, 100)
