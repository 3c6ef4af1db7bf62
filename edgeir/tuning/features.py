"""Numbers that describe a kernel and a configuration to the cost model: few, cheap, and alike for all kernels.

What the knobs alone tell of the innermost tile comes first: what it does per step of the reduction (independent sums,
loads beside multiplications, registers used), what is wasted at its edges, and how many pieces of work there are for
the threads. What only the scheduled loops tell (`nest_features`) stands behind. Sizes enter as binary logarithms.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np

from edgeir.schedules.conv_problem import conv_problem
from edgeir.schedules.register_tile import registers_needed, step_cycles
from edgeir.schedules.template import Config
from edgeir.tuning.nest_features import NAMES as LOOPS
from edgeir.tuning.nest_features import log_size, nest_features
from edgeir.tuning.pruning import tile_of
from edgeir.tuning.tasks import KernelTask

KNOBS = (
    *("tile_pixels", "tile_rows", "tile_columns", "blocks", "chunk_pixels", "chunk_rows", "band_rows", "m"),
    *("outer", "walk", "padding", "parallel", "vectors", "rows", "pack", "tile", "prefetch"),
)
"""The knobs that have a column of their own; those of other templates share the last column."""

TASK_FEATURES = ("output", "input", "weights", "depth", "pixels", "channels", "kernel", "stride", "threads", "operands")
TILE_FEATURES = ("tile", "sums", "registers", "cycles", "waste", "chunk", "chunk_in_l1", "chunk_in_l2", "pieces")
NAMES = (*TASK_FEATURES, "template", *KNOBS, "other", *TILE_FEATURES)

NESTS = 48
"""Configurations of one kernel, at most, that are scheduled for a training set."""


def features(task: KernelTask, template: str, config: Config) -> np.ndarray:
    """The row of one configuration, float32, shape (len(NAMES),); what does not apply is NaN."""
    return np.array(
        [
            *_task_features(task),
            _code(template),
            *(_knob(task, template, config, name) for name in KNOBS),
            float(sum(log_size(value) for key, value in config.items() if key not in KNOBS and isinstance(value, int))),
            *_tile_features(task, template, config),
        ],
        dtype=np.float32,
    )


def feature_rows(task: KernelTask, candidates: Sequence[tuple[str, Config]], nests: int = NESTS) -> np.ndarray:
    """One row for each (template, configuration), those of its loops behind; shape (n, len(NAMES) + len(LOOPS)).

    Args:
        task: the kernel.
        candidates: templates and configurations.
        nests: of so many, evenly spread, the loops are described; it takes ten milliseconds each. NaN for the others.
    """
    loops = np.full((len(candidates), len(LOOPS)), np.nan, np.float32)
    described = set(np.linspace(0, len(candidates) - 1, min(nests, len(candidates))).astype(int).tolist())
    for number in described:
        loops[number] = nest_features(task, *candidates[number])
    return np.hstack([knob_rows(task, candidates), loops])


def knob_rows(task: KernelTask, candidates: Sequence[tuple[str, Config]]) -> np.ndarray:
    """The rows without their loops, in microseconds each; shape (n, len(NAMES))."""
    rows = [features(task, template, config) for template, config in candidates]
    return np.stack(rows) if rows else np.empty((0, len(NAMES)), np.float32)


def _code(text: str) -> float:
    """A number for a name, the same in every process; trees can single it out."""
    return float(zlib.crc32(text.encode()) % 997)


def _knob(task: KernelTask, template: str, config: Config, name: str) -> float:
    if name not in config:
        return math.nan
    value = config[name]
    if isinstance(value, str):
        return float(list(task.spaces[template][name]).index(value)) if value in task.spaces[template][name] else -1.0
    return float(value) if isinstance(value, bool) else log_size(value)


def _task_features(task: KernelTask) -> list[float]:
    output = task.task.anchor_output.shape
    sizes = [math.prod(spec.shape) for spec in task.task.anchor_inputs]
    depth, pixels, channels, kernel, stride = math.nan, math.nan, math.nan, math.nan, math.nan
    if task.task.anchor == "conv":
        problem = conv_problem(task.task)
        depth, pixels, channels = log_size(problem.in_group), log_size(problem.pixels), log_size(problem.out_group)
        kernel, stride = float(math.prod(problem.kernel)), float(problem.strides[0])
    return [
        *(
            log_size(math.prod(output)),
            log_size(sizes[0]) if sizes else 0.0,
            log_size(sizes[1]) if len(sizes) > 1 else 0.0,
        ),
        *(depth, pixels, channels, kernel, stride, float(task.target.cores), float(len(task.task.operands))),
    ]


def _tile_features(task: KernelTask, template: str, config: Config) -> list[float]:
    tile = tile_of(task, template, config)
    if tile is None:
        return [math.nan] * len(TILE_FEATURES)
    target = task.target
    sums = tile.pixels * tile.vectors
    outputs = math.prod(task.task.anchor_output.shape) / target.lanes()
    return [
        *(
            log_size(tile.pixels),
            log_size(sums),
            registers_needed(tile.pixels, tile.vectors, target) / target.vector_registers,
        ),
        step_cycles(tile.pixels, tile.vectors, target) / sums * tile.waste,
        *(tile.waste, log_size(tile.chunk_bytes)),
        tile.chunk_bytes / max(1, target.l1_bytes),
        tile.chunk_bytes / max(1, target.l2_bytes or target.l1_bytes),
        log_size(outputs / sums / target.cores),
    ]
