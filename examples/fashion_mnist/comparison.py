"""The artifact beside the float network in onnxruntime, both on one thread."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

import numpy as np

from edgeir.runtime import Session

_ROUNDS = 200


def compare(model: Path, artifact: Path) -> str:
    """A sentence with sizes of the weights and the least times of one image; both engines are timed in turn.

    Args:
        model: the float network as ONNX.
        artifact: the compiled network.
    """
    session = Session(artifact, 1)
    weights = session.manifest.constant_bytes
    size = f"weights {model.stat().st_size / 1024:.0f} KiB → {weights / 1024:.0f} KiB"
    size += f" ({model.stat().st_size / weights:.1f} times smaller)"
    if importlib.util.find_spec("onnxruntime") is None:
        return f"{size}; install onnxruntime to compare times"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    reference = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    spec = session.inputs[0]
    inputs = {spec.name: np.random.default_rng(0).normal(size=spec.shape).astype(spec.dtype)}
    best = {"onnxruntime": np.inf, "edgeir": np.inf}
    for _ in range(_ROUNDS):
        for name, run in (
            ("onnxruntime", lambda: reference.run(None, inputs)),
            ("edgeir", lambda: session.run(inputs)),
        ):
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    theirs, ours = best["onnxruntime"], best["edgeir"]
    return f"{size}; {1e3 * theirs:.3f} ms in onnxruntime → {1e3 * ours:.3f} ms ({theirs / ours:.1f} times faster)"
