"""Reading trained networks into the IR."""

from edgeir.frontend.onnx import from_model, load

__all__ = ["from_model", "load"]
