"""Sets weights that matter least to zero.

    %w = constant float32[1, 4] [0.1, -2.0, 0.3, 4.0]
    %y = matmul(%x, %w) {transpose_b = true} : float32[1, 1]

becomes, at ratio 0.5,

    %w = constant float32[1, 4] [0.0, -2.0, 0.0, 4.0]
    %y = matmul(%x, %w) {transpose_b = true} : float32[1, 1]

The zeros are exact, so that they tell the mask, which later training respects and sparse kernels use.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, Node, Value
from edgeir.ir.dtype import FLOATS
from edgeir.passes.pruning.prune_channels import check_share
from edgeir.passes.pruning.report import REPORT, WeightReport
from edgeir.passmanager import Pass, PassContext, register_pass

DEFAULT_RATIO = 0.5
_N_OF_M = re.compile(r"([1-9]\d*):([1-9]\d*)\Z")


@dataclass(frozen=True)
class _Weights:
    """A constant that layers multiply by.

    Attributes:
        value: the constant.
        outputs: its axis of output channels.
        inputs: its axis of input channels, along which products are summed.
        node: the first layer that reads it.
    """

    value: Value
    outputs: int
    inputs: int
    node: Node


@register_pass
@dataclass(frozen=True)
class PruneWeights(Pass):
    """Sets weights of convolutions and products to zero by score.

    Attributes:
        ratio: the share of weights to set to zero, between 0 and 1; 0.5 where neither a threshold nor N:M is given.
        threshold: zero what scores below this, instead of a ratio.
        score: s = |w| (l1), s = w² (l2) or s = |w|·w² (weighted); of a block, the mean of its weights' scores.
        pattern: `unstructured`; `N:M`, at most N of M neighbours along the input channels stay; `block`, as many
            neighbouring output channels as the target has float lanes go together.
        scope: `tensor`: the ratio of every tensor; `global`: of all weights together; `adaptive`: of all together, each
            score divided by the sum of those in its tensor that are no smaller, so that a tensor's share does not
            depend on the scale of its weights (with score=l2 the method of Lee et al., "Layer-adaptive sparsity for the
            magnitude-based pruning", ICLR 2021, section 3).
        block: output channels of a block, instead of the target's lanes.
    """

    name: ClassVar[str] = "prune-weights"

    ratio: float | None = None
    threshold: float | None = None
    score: Literal["l1", "l2", "weighted"] = "l1"
    pattern: str = "unstructured"
    scope: Literal["tensor", "global", "adaptive"] = "tensor"
    block: int | None = None

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            EdgeIRError: a number is out of range, the pattern is unknown, or options contradict each other.
        """
        check_share(self.name, "ratio", self.ratio)
        if self.threshold is not None and not (math.isfinite(self.threshold) and self.threshold > 0):
            raise EdgeIRError(
                "threshold is out of range", where=self.name, expected="a number above 0", got=self.threshold
            )
        match = _N_OF_M.match(self.pattern)
        if match is None and self.pattern not in ("unstructured", "block"):
            raise EdgeIRError(
                "unknown pattern", where=self.name, expected="unstructured, block, or N:M such as 2:4", got=self.pattern
            )
        if match is not None and int(match[1]) >= int(match[2]):
            raise EdgeIRError("N:M keeps everything", where=self.name, expected="N below M", got=self.pattern)
        if sum((self.ratio is not None, self.threshold is not None, match is not None)) > 1:
            raise EdgeIRError(
                "several options say how much to remove",
                where=self.name,
                expected="one of ratio, threshold, pattern=N:M",
            )
        if self.block is not None and (self.block < 1 or self.pattern != "block"):
            raise EdgeIRError("block is out of range", where=self.name, expected="≥ 1, with pattern=block")

    def run(self, graph: Graph, context: PassContext) -> None:
        """Zeroes weights, and hands a `WeightReport` to the service "pruning-report" if there is one.

        Raises:
            EdgeIRError: there are no weights to prune, or weights are not finite. The graph is as it was then.
        """
        report = WeightReport()
        found = _find_weights(graph, report)
        if not found:
            details = "\n".join(f"  {name}: {reason}" for name, reason in report.skipped.items())
            raise EdgeIRError("no weights can be pruned", where=f"graph {graph.name}", details=details or None)
        scores = [self._scores(item.value) for item in found]
        match = _N_OF_M.match(self.pattern)
        if match is not None:
            masks = [
                n_of_m(score, item.inputs, int(match[1]), int(match[2]))
                for item, score in zip(found, scores, strict=True)
            ]
        else:
            block = 1
            if self.pattern == "block":
                block = self.block or context.require_target(f"{self.name}{{pattern=block}}").lanes(32)
            blocks = [_block_means(score, item.outputs, block) for item, score in zip(found, scores, strict=True)]
            masks = [
                _spread(kept, item.outputs, block, score.shape)
                for kept, item, score in zip(self._kept(blocks), found, scores, strict=True)
            ]
        changes = []
        for item, mask in zip(found, masks, strict=True):
            if not mask.all() and context.permit(self.name, item.node):
                changes.append((item.value, np.where(mask, item.value.data, np.zeros((), item.value.data.dtype))))
                report.masks[item.value.name] = mask
        names = {}
        for value, array in changes:
            new = graph.add_constant(array, value.name, value.type.layout)
            graph.replace_all_uses(value, new)
            names[new] = value.name
        graph.remove_unused_constants()
        for value, name in names.items():
            if value.name != name:
                graph.rename(value, name)
        if REPORT in context.services:
            context.services[REPORT](report)

    def _scores(self, value: Value) -> np.ndarray:
        magnitude = np.abs(value.data.astype(np.float64))
        if not np.isfinite(magnitude).all():
            raise EdgeIRError("weights are not finite", where=f"%{value.name}")
        return magnitude ** {"l1": 1, "l2": 2, "weighted": 3}[self.score]

    def _kept(self, scores: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Which blocks stay."""
        if self.threshold is not None:
            return [score >= self.threshold for score in scores]
        ratio = self.ratio or DEFAULT_RATIO
        if self.scope == "tensor":
            return [_without_lowest(score.reshape(-1), ratio).reshape(score.shape) for score in scores]
        if self.scope == "adaptive":
            scores = [_layer_adaptive(score) for score in scores]
        kept = _without_lowest(np.concatenate([score.reshape(-1) for score in scores]), ratio)
        ends = np.cumsum([score.size for score in scores])
        parts = np.split(kept, ends[:-1])
        return [part.reshape(score.shape) for part, score in zip(parts, scores, strict=True)]


def weight_masks(graph: Graph) -> dict[str, np.ndarray]:
    """The masks that the zeros of a graph's weights tell: name of a constant → bool, True where it is not zero.

    Only weights with zeros are named.
    """
    found = {item.value.name: item.value.data != 0 for item in _find_weights(graph, WeightReport())}
    return {name: mask for name, mask in found.items() if not mask.all()}


def n_of_m(scores: np.ndarray, axis: int, n: int, m: int) -> np.ndarray:
    """The `n` greatest of every `m` neighbours along an axis: bool, of the scores' shape; a short rest keeps `n`."""
    moved = np.moveaxis(scores, axis, -1)
    length = moved.shape[-1]
    padded = np.full((*moved.shape[:-1], -(-length // m) * m), -1.0)
    padded[..., :length] = moved
    groups = padded.reshape(*moved.shape[:-1], -1, m)
    order = np.argsort(-groups, axis=-1, kind="stable")
    mask = np.zeros(groups.shape, dtype=bool)
    np.put_along_axis(mask, order[..., :n], True, axis=-1)
    return np.moveaxis(mask.reshape(padded.shape)[..., :length], -1, axis)


def _without_lowest(scores: np.ndarray, ratio: float) -> np.ndarray:
    kept = np.ones(scores.size, dtype=bool)
    kept[np.argsort(scores, kind="stable")[: round(ratio * scores.size)]] = False
    return kept


def _layer_adaptive(scores: np.ndarray) -> np.ndarray:
    """Each score by the sum of those that are no smaller; the greatest of a tensor gets 1."""
    flat = scores.reshape(-1)
    order = np.argsort(flat, kind="stable")
    ascending = flat[order]
    remaining = np.cumsum(ascending[::-1])[::-1]
    relative = np.zeros_like(flat)
    relative[order] = np.divide(ascending, remaining, out=np.zeros_like(flat), where=remaining > 0)
    return relative.reshape(scores.shape)


def _block_means(scores: np.ndarray, axis: int, block: int) -> np.ndarray:
    """Means over blocks along an axis, the last of which may be short."""
    if block == 1:
        return scores
    starts = np.arange(0, scores.shape[axis], block)
    lengths = np.minimum(block, scores.shape[axis] - starts)
    shape = [len(starts) if position == axis else 1 for position in range(scores.ndim)]
    return np.add.reduceat(scores, starts, axis=axis) / lengths.reshape(shape)


def _spread(kept: np.ndarray, axis: int, block: int, shape: tuple[int, ...]) -> np.ndarray:
    return kept if block == 1 else np.take(np.repeat(kept, block, axis=axis), np.arange(shape[axis]), axis=axis)


def _find_weights(graph: Graph, report: WeightReport) -> list[_Weights]:
    """Floating-point constants that are multiplied by, each once."""
    found: dict[Value, _Weights] = {}
    for node in graph.nodes:
        if node.op not in ("conv", "conv_transpose", "matmul"):
            continue
        value = node.input(1)
        if not value.is_constant:
            report.skipped[node.output.name] = "its weights are not a constant"
        elif value.type.dtype not in FLOATS:
            report.skipped[value.name] = f"its weights are {value.type.dtype}, not floating-point"
        elif value.is_output:
            report.skipped[value.name] = "its weights are an output of the graph"
        elif any(user.op != node.op for user in value.users):
            report.skipped[value.name] = "other operators read its weights"
        elif value not in found:
            rank = value.type.rank
            last, before = (rank - 2, rank - 1) if node.attributes.get("transpose_b") else (rank - 1, rank - 2)
            axes = {"conv": (0, 1), "conv_transpose": (1, 0), "matmul": (last, before)}[node.op]
            found[value] = _Weights(value, *axes, node)
    return list(found.values())
