"""ONNX's own conformance cases, through import, passes and compiled code: `python -m benchmarks.conformance`."""
