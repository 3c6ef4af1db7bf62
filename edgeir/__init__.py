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
    from edgeir.export import export_model as export_onnx
    from edgeir.frontend import load
    from edgeir.ir import Graph
    from edgeir.passmanager import Pipeline
    from edgeir.quantizer import QuantizationResult, quantize
    from edgeir.runtime import Artifact, Session, verify
    from edgeir.targets import Target

__version__ = "0.1.0"

_ORIGINS = {
    "Artifact": "edgeir.runtime",
    "Graph": "edgeir.ir",
    "Pipeline": "edgeir.passmanager",
    "QuantizationResult": "edgeir.quantizer",
    "Session": "edgeir.runtime",
    "Target": "edgeir.targets",
    "compile": "edgeir.compiler",
    "export_onnx": "edgeir.export:export_model",
    "load": "edgeir.frontend",
    "quantize": "edgeir.quantizer",
    "verify": "edgeir.runtime",
}

__all__ = [
    "Artifact",
    "EdgeIRError",
    "Graph",
    "Pipeline",
    "QuantizationResult",
    "Session",
    "Target",
    "compile",
    "export_onnx",
    "load",
    "quantize",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _ORIGINS:
        raise AttributeError(f"module 'edgeir' has no attribute {name!r}")
    module, _, attribute = _ORIGINS[name].partition(":")
    value = getattr(importlib.import_module(module), attribute or name)
    globals()[name] = value
    return value
