"""Latency on this machine's CUDA device, beside onnxruntime's CUDA provider and torch where they are installed.

    python -m benchmarks.gpu_latency MODEL.onnx --shape input=1,3,224,224 --output benchmarks/results/gpu.json

Copies of inputs and outputs are part of every run. Contenders run in turn, and the minimum of each counts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import edgeir
from edgeir.cli import parse_shapes
from edgeir.errors import EdgeIRError
from edgeir.runtime import Session
from edgeir.runtime.gpu import cuda_architecture

Run = Callable[[], list[np.ndarray]]


def edgeir_contender(model: Path, shapes: Any, architecture: str, folder: Path) -> tuple[Session, dict[str, Any]]:
    edgeir.compile(model, f"cuda-{architecture}", shapes, output=folder / "model")
    session = Session(folder / "model")
    rng = np.random.default_rng(0)
    inputs = {
        spec.name: rng.standard_normal(spec.shape).astype(spec.dtype)
        if "float" in spec.dtype
        else rng.integers(0, 2, spec.shape).astype(spec.dtype)
        for spec in session.inputs
    }
    return session, inputs


def onnxruntime_contender(model: Path, inputs: dict[str, Any]) -> Run | str:
    try:
        import onnxruntime
    except ImportError:
        return "not installed"
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return "installed without its CUDA provider (onnxruntime-gpu)"
    session = onnxruntime.InferenceSession(str(model), providers=["CUDAExecutionProvider"])
    return lambda: [np.asarray(value) for value in session.run(None, inputs)]


def torch_contender(model: Path, inputs: dict[str, Any]) -> Run | str:
    try:
        import torch  # pyright: ignore[reportMissingImports]
        from onnx2torch import convert  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        return f"not installed: {error.name}"
    module = convert(str(model)).eval().cuda()

    def run() -> list[np.ndarray]:
        with torch.no_grad():
            result = module(*(torch.from_numpy(array).cuda() for array in inputs.values()))
        results = result if isinstance(result, tuple | list) else [result]
        return [tensor.cpu().numpy() for tensor in results]

    return run


def measure(runs: dict[str, Run], rounds: int) -> dict[str, float]:
    """Least seconds of a run, for each contender."""
    best = dict.fromkeys(runs, float("inf"))
    for round_number in range(rounds + 3):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if round_number >= 3:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--shape", action="append")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    architecture = cuda_architecture()
    if not architecture:
        raise SystemExit("There is no usable CUDA device on this machine.")
    with tempfile.TemporaryDirectory() as folder:
        try:
            session, inputs = edgeir_contender(options.model, parse_shapes(options.shape), architecture, Path(folder))
        except EdgeIRError as error:
            raise SystemExit(str(error)) from None
        runs: dict[str, Run] = {"edgeir": lambda: list(session.run(inputs).values())}
        missing = {}
        for name, contender in (("onnxruntime", onnxruntime_contender), ("torch", torch_contender)):
            found = contender(options.model, inputs)
            if isinstance(found, str):
                missing[name] = found
            else:
                runs[name] = found
        seconds = measure(runs, options.rounds)
    report = {
        "model": options.model.name,
        "architecture": architecture,
        "milliseconds": {name: 1000 * value for name, value in seconds.items()},
        "missing": missing,
    }
    text = json.dumps(report, indent=2)
    print(text)
    if options.output is not None:
        options.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
