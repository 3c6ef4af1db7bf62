"""Real models on real samples: 8 bits beside float, run by onnxruntime from the exported file."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime
import pytest

import edgeir
from benchmarks.quantization_accuracy import agreement, outputs
from benchmarks.quantization_data import Task, photographs, text_lines


def quantized(task: Task, folder: Path) -> Path:
    shape = (task.batch, *task.evaluation.shape[1:])
    result = edgeir.quantize(
        *(task.model, {task.input: task.calibration}), shapes={task.input: shape}, compare_outputs=False
    )
    path = folder / "quantized.onnx"
    edgeir.export_onnx(result.graph, path, "qdq")
    return path


@pytest.mark.slow
def test_text_orientation(shared_models: Path, tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    task = text_lines()
    task = replace(task, calibration=task.calibration[:12], evaluation=task.evaluation[:12])
    row = agreement(task, outputs(task, quantized(task, tmp_path)), outputs(task, task.model))
    assert row["same_answer"] == 12 and row["mean_cosine"] > 0.98


@pytest.mark.slow
def test_photographs(shared_models: Path, tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    task = photographs()
    assert task.labels is not None
    task = replace(task, calibration=task.calibration[:8], evaluation=task.evaluation[:8], labels=task.labels[:8])
    path = quantized(task, tmp_path)
    row = agreement(task, outputs(task, path), outputs(task, task.model))
    assert row["same_answer"] >= 7 and row["mean_cosine"] > 0.985
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    ops = Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
    assert ops["QLinearConv"] == 49 and not ops["Conv"]
