"""What quantization did to a model: noise layer by layer, and how far the outputs moved."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, Value
from edgeir.ops.operands import integer_range
from edgeir.passes.quantization.calibration import probe

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class LayerReport:
    """A convolution or product.

    Attributes:
        op: the operator.
        name: its place in the model, or its result's name.
        sqnr_db: signal power by noise power of the layer's output in the whole quantized network, before that output
            is rounded itself, in decibels; infinite without noise.
        weight_bits: bits of a weight; 0 if the weights stayed float.
        weight_scales: the least and the greatest scale of a channel, or None.
        input_range, output_range: what the layer's first operand and its output can represent; None for float.
    """

    op: str
    name: str
    sqnr_db: float
    weight_bits: int
    weight_scales: tuple[float, float] | None
    input_range: tuple[float, float] | None
    output_range: tuple[float, float] | None


@dataclass(frozen=True)
class OutputReport:
    """An output beside the float model's, over all samples.

    Attributes:
        name: of the output.
        max_error: the largest absolute difference.
        mean_cosine, min_cosine: cosine similarity of a sample's outputs.
        top1: share of rows (last axis) whose largest element is at the same place.
    """

    name: str
    max_error: float
    mean_cosine: float
    min_cosine: float
    top1: float


@dataclass(frozen=True)
class QuantizationReport:
    """See `LayerReport` and `OutputReport`.

    Attributes:
        settings: what was asked for.
        layers: in the graph's order.
        outputs: in the graph's order.
        calibration_samples, evaluation_samples: how many samples gave the ranges, and the comparison.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[LayerReport, ...] = ()
    outputs: tuple[OutputReport, ...] = ()
    calibration_samples: int = 0
    evaluation_samples: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values; infinities become None."""
        return _plain(asdict(self))

    def save(self, path: str | Path) -> None:
        """Writes the report as JSON.

        Raises:
            EdgeIRError: the file cannot be written.
        """
        try:
            Path(path).write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise EdgeIRError("cannot write the report", where=str(path), got=str(error)) from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def compare(
    original: Graph,
    quantized: Graph,
    layers: Sequence[tuple[str, str]],
    samples: Sequence[Arrays],
    execute: Callable[[Graph], Callable[[Arrays], Arrays]],
) -> tuple[tuple[LayerReport, ...], tuple[OutputReport, ...]]:
    """Runs both graphs on samples, one sample in memory at a time.

    Args:
        original: the float graph that the quantized one was made from; values have the same names.
        quantized: the fake-quantized graph.
        layers: for each layer, the name of what its operator computes, and of what its group computes.
        samples: input name → array.
        execute: makes a graph ready to run.
    """
    results = {name: quantized.value(name) for _, name in layers}
    powers = {name: np.zeros(2) for name in results}
    outputs = [_OutputComparison(name) for name in original.output_names]
    left, left_names = _probes(original, [original.value(name) for name in results])
    right, right_names = _probes(quantized, list(dict.fromkeys(results.values())))
    run_left, run_right = execute(left), execute(right)
    for sample in samples:
        expected, got = run_left(sample), run_right(sample)
        for name in results:
            a = np.asarray(expected[left_names[original.value(name)]], np.float64)
            b = np.asarray(got[right_names[results[name]]], np.float64)
            powers[name] += (a**2).sum(), ((a - b) ** 2).sum()
        for output, x, y in zip(outputs, original.outputs, quantized.outputs, strict=True):
            output.add(np.asarray(got[right_names[y]]), np.asarray(expected[left_names[x]]))
    rows = tuple(_layer(quantized, result, group, powers[group]) for result, group in layers)
    return rows, tuple(output.report() for output in outputs)


def _probes(graph: Graph, values: list[Value]) -> tuple[Graph, dict[Value, str]]:
    return probe(graph, list(dict.fromkeys([*values, *graph.outputs])))


def _as_read(value: Value) -> Value:
    """The value as its readers see it: dequantized, where it is quantized."""
    for node in value.users:
        if node.op in ("quantize", "log_quantize"):
            for reader in node.output.users:
                if reader.op in ("dequantize", "log_dequantize"):
                    return reader.output
    return value


def representable(value: Value) -> tuple[float, float] | None:
    """The least and greatest number that a `dequantize` with one scale can give; None for other values."""
    node = value.producer
    if node is None or node.op != "dequantize" or not node.input(1).is_constant or node.input(1).data.size != 1:
        return None
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    shift = 0 if zero is None or not zero.is_constant else int(zero.data.reshape(-1)[0])
    scale = float(node.input(1).data.reshape(()))
    low, high = integer_range(node.input(0).type.dtype)
    return (low - shift) * scale, (high - shift) * scale


def _layer(graph: Graph, result: str, group: str, power: np.ndarray) -> LayerReport:
    node = graph.value(result).producer
    assert node is not None
    signal, noise = float(power[0]), float(power[1])
    sqnr = math.inf if noise == 0.0 else -math.inf if signal == 0.0 else 10.0 * math.log10(signal / noise)
    weights = node.input(1).producer
    bits, scales = 0, None
    if weights is not None and weights.op in ("dequantize", "log_dequantize"):
        codes = weights.input(0)
        bits = weights.attributes.get("bits") or int("".join(filter(str.isdigit, codes.type.dtype)))
        if weights.input(1).is_constant:
            scales = float(weights.input(1).data.min()), float(weights.input(1).data.max())
    name = node.location or result
    value = _as_read(graph.value(group))
    return LayerReport(node.op, name, sqnr, bits, scales, representable(node.input(0)), representable(value))


class _OutputComparison:
    def __init__(self, name: str) -> None:
        self.name = name
        self.max_error = 0.0
        self.cosines: list[float] = []
        self.same, self.rows = 0, 0

    def add(self, got: np.ndarray, expected: np.ndarray) -> None:
        a, b = got.astype(np.float64), expected.astype(np.float64)
        if not a.size:
            return
        self.max_error = max(self.max_error, float(np.abs(a - b).max()))
        norms = float(np.linalg.norm(a) * np.linalg.norm(b))
        self.cosines.append(float(np.vdot(a, b)) / norms if norms else float(np.array_equal(a, b)))
        if a.ndim:
            same = a.argmax(-1) == b.argmax(-1)
            self.same, self.rows = self.same + int(same.sum()), self.rows + same.size

    def report(self) -> OutputReport:
        mean = float(np.mean(self.cosines)) if self.cosines else 1.0
        least = min(self.cosines, default=1.0)
        return OutputReport(self.name, self.max_error, mean, least, self.same / self.rows if self.rows else 1.0)
