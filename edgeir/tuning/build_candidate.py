"""In a worker: from a problem's text and a configuration to a shared library and its packed constants."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Any

import numpy as np
import tvm

from edgeir.errors import EdgeIRError
from edgeir.ir.graph import Value
from edgeir.lowering.layouts import to_physical
from edgeir.lowering.task import Lowering
from edgeir.targets.target import Target
from edgeir.tuning.link import link_function
from edgeir.tuning.problem import Problem
from edgeir.tuning.tasks import find_template, matching_templates

LIBRARY = "kernel.so"
_REMEMBERED = 8


class Builder:
    """Builds candidates; remembers the last few problems."""

    def __init__(self) -> None:
        self._lowerings: OrderedDict[str, Lowering] = OrderedDict()

    def handle(self, message: dict[str, Any]) -> dict[str, Any]:
        """`problem`, `target`, `template`, `config`, `extra`, `folder` → `error` ("" if all went well), `detail`."""
        try:
            self.build(message)
        except EdgeIRError as error:
            # The template refused the configuration, or the linker the code.
            return {"error": "invalid", "detail": str(error)[:400]}
        except Exception as error:  # TVM raises types of its own, and of Python's.
            return {"error": "build", "detail": f"{type(error).__name__}: {error}"[:400]}
        return {"error": "", "detail": ""}

    def build(self, message: dict[str, Any]) -> None:
        """Writes the library, and `N.npy` for each constant operand N that the template packs."""
        lowering = self._lowering(message["problem"])
        target = Target.from_dict(message["target"])
        templates = matching_templates(lowering.task, target, message["extra"])
        template = find_template(templates, message["template"], lowering.task.name)
        kernel = template.apply(lowering.task, message["config"], target)
        module = tvm.tirx.build(kernel.func, target=tvm.target.Target(target.tvm_config()), pipeline="s_tir")
        folder = message["folder"]
        os.makedirs(folder, exist_ok=True)
        module.export_library(os.path.join(folder, LIBRARY), fcompile=link_function(target), workspace_dir=folder)
        for index, pack in kernel.pack.items():
            source = lowering.sources[index]
            array = to_physical(source.data, source.type) if isinstance(source, Value) else source
            np.save(os.path.join(folder, f"{index}.npy"), pack(array), allow_pickle=False)

    def _lowering(self, text: str) -> Lowering:
        if text not in self._lowerings:
            self._lowerings[text] = Problem.from_text(text).lowering()
            while len(self._lowerings) > _REMEMBERED:
                self._lowerings.popitem(last=False)
        return self._lowerings[text]
