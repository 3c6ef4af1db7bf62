"""EdgeIR: a graph compiler for networks on edge devices.

    graph = edgeir.load("model.onnx", shapes={"x": (1, 3, 224, 224)})
    artifact = edgeir.compile(graph, target="host", output="model.edgeir")
    outputs = edgeir.Session("model.edgeir").run({"x": image})

Names are loaded when they are first used, so that running an artifact does not import the compiler.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from edgeir.errors import EdgeIRError

if TYPE_CHECKING:
    from edgeir.compiler import compile
    from edgeir.frontend import load
    from edgeir.ir import Graph
    from edgeir.passmanager import Pipeline
    from edgeir.runtime import Artifact, Session, verify
    from edgeir.targets import Target

__version__ = "0.1.0"

_ORIGINS = {
    "Artifact": "edgeir.runtime",
    "Graph": "edgeir.ir",
    "Pipeline": "edgeir.passmanager",
    "Session": "edgeir.runtime",
    "Target": "edgeir.targets",
    "compile": "edgeir.compiler",
    "load": "edgeir.frontend",
    "verify": "edgeir.runtime",
}

__all__ = [
    "Artifact",
    "EdgeIRError",
    "Graph",
    "Pipeline",
    "Session",
    "Target",
    "compile",
    "load",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _ORIGINS:
        raise AttributeError(f"module 'edgeir' has no attribute {name!r}")
    value = getattr(importlib.import_module(_ORIGINS[name]), name)
    globals()[name] = value
    return value
