"""Graphs as standard ONNX models; with the frontend, the only user of `onnx`."""

from edgeir.export.model import export_model, is_quantized, save, to_onnx

__all__ = ["export_model", "is_quantized", "save", "to_onnx"]
