"""Accuracy of networks and of what is compiled from them, and their time beside the float network in onnxruntime."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from edgeir.compiler import compile
from edgeir.ir import Graph
from edgeir.runtime import Session
from edgeir.targets import Target
from edgeir.training.metrics import images_channels_last
from edgeir.training.module import GraphModule
from edgeir.training.open_batch import open_batch
from edgeir.training.recipes import fixed
from edgeir.training.recipes.report import graph_report

_BATCH = 128
_LATENCY_ROUNDS = 400

Arrays = tuple[np.ndarray, np.ndarray]
Row = dict[str, Any]


def logits_of(graph: Graph, images: np.ndarray) -> np.ndarray:
    """Output (samples, classes) of a graph in torch for images (samples, 1, height, width)."""
    module = GraphModule(open_batch(graph), trainable=lambda value: False).eval()
    name = graph.output_names[0]
    with torch.no_grad():
        parts = [
            module(images_channels_last(torch.from_numpy(images[start : start + _BATCH])))[name].numpy()
            for start in range(0, len(images), _BATCH)
        ]
    return np.concatenate(parts)


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Percentage of samples with the largest output at the label."""
    return 100.0 * float((logits.argmax(1) == labels).mean())


def judge_graph(graph: Graph, test: Arrays) -> tuple[Row, np.ndarray]:
    """Accuracy in torch (percent), parameters, those not zero, bytes of the weights, multiply-accumulates of an image.

    Returns:
        the row, and the outputs.
    """
    outputs = logits_of(graph, test[0])
    report = graph_report("", fixed(graph), {})
    row = {
        "accuracy": accuracy(outputs, test[1]),
        "parameters": report.parameters,
        "nonzero": report.nonzero,
        "weight_bytes": report.bytes,
        "macs": report.macs,
    }
    return row, outputs


def judge_compiled(graph: Graph, outputs: np.ndarray, test: Arrays, target: Target, folder: Path) -> Row:
    """Compiles a fake-quantized graph for one image and compares the artifact with the graph in torch.

    Args:
        graph: the network.
        outputs: of the graph in torch, on the test images.
        test: images and labels.
        target: this machine.
        folder: where the artifact is written.

    Returns:
        accuracy (percent); agreement: share of images with the same largest output, in percent; mean_steps: mean
        absolute difference of outputs in steps of 1/255 of their range; bytes of constants and code.
    """
    artifact = compile(fixed(graph), target, output=folder)
    session = Session(folder, target.cores)
    name = session.inputs[0].name
    found = np.concatenate([next(iter(session.run({name: image[None]}).values())) for image in test[0]])
    step = (outputs.max() - outputs.min()) / 255
    return {
        "accuracy": accuracy(found, test[1]),
        "agreement": 100.0 * float((found.argmax(1) == outputs.argmax(1)).mean()),
        "mean_steps": float(np.abs(found - outputs).mean() / step),
        "constant_bytes": artifact.manifest.constant_bytes,
        "code_bytes": artifact.manifest.code_bytes,
    }


def compare_latency(model: Path, artifact: Path, threads: int = 1) -> Row:
    """Least times of one image, float in onnxruntime and the artifact, run in turns; sizes of the weights.

    Args:
        model: the float network as ONNX, with an open batch or a batch of 1.
        artifact: the compiled network.
        threads: of both.
    """
    session = Session(artifact, threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    reference = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    spec = session.inputs[0]
    image = np.random.default_rng(0).normal(size=spec.shape).astype(spec.dtype)
    theirs, ours = {reference.get_inputs()[0].name: image}, {spec.name: image}
    best = [math.inf, math.inf]
    for _ in range(_LATENCY_ROUNDS):
        for index, run in enumerate((lambda: reference.run(None, theirs), lambda: session.run(ours))):
            start = time.perf_counter()
            run()
            best[index] = min(best[index], time.perf_counter() - start)
    return {
        "onnxruntime_float_ms": 1e3 * best[0],
        "edgeir_ms": 1e3 * best[1],
        "times_faster": best[0] / best[1],
        "threads": threads,
        "onnxruntime": onnxruntime.__version__,
        "rounds": _LATENCY_ROUNDS,
    }
