"""Matrix products on a GPU."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from edgeir.schedules.fallback import plain_function
from edgeir.schedules.gpu_gemm import KNOBS, Gemm, checked, default_config, scheduled_gemm
from edgeir.schedules.gpu_stages import schedule_for_gpu
from edgeir.schedules.matmul_problem import MatmulProblem
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.schedules.workspace import workspace_bytes
from edgeir.targets.target import Target

DTYPES = ("float32", "float16")
# Fewer rows leave most of a tile idle; a block of threads for each result is better then.
_LEAST_ROWS = 4


class GpuGemmTemplate:
    """What the templates that are matrix products share."""

    name = "gpu_gemm"

    def gemm(self, task: Task) -> Gemm | None:
        """The product that the task is, or None."""
        raise NotImplementedError

    def match(self, task: Task, target: Target) -> bool:
        """Whether the target is a GPU and the task a product large enough for tiles."""
        if target.gpu is None:
            return False
        gemm = self.gemm(task)
        return gemm is not None and min(gemm.rows, gemm.columns) >= _LEAST_ROWS and gemm.depth >= _LEAST_ROWS

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """Tile sizes."""
        return KNOBS

    def default(self, task: Task, target: Target) -> Config:
        """The largest tile that keeps the processors busy."""
        gemm = self.gemm(task)
        assert gemm is not None
        return default_config(gemm, target)

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The scheduled kernel.

        Raises:
            EdgeIRError: for a config that is not one of the space, or whose block is too large for the target.
        """
        knobs = checked(config, self.name, target)
        gemm = self.gemm(task)
        assert gemm is not None
        try:
            func = scheduled_gemm(task, gemm, knobs, target)
        except Exception:  # an epilogue that does not fit: every schedule primitive raises its own types
            func = schedule_for_gpu(plain_function(task), target)
        return Kernel(func, workspace_bytes=workspace_bytes(func))


class GpuMatmul(GpuGemmTemplate):
    """Matrix products of plain float matrices, batched or not."""

    name = "gpu_matmul"

    def gemm(self, task: Task) -> Gemm | None:
        """The product that the task is, or None."""
        problem = _problem(task)
        if problem is None:
            return None
        return Gemm(
            groups=problem.groups,
            rows=problem.rows,
            columns=problem.columns,
            depth=problem.depth,
            out_shape=task.anchor_output.shape,
            row_axes=len(task.anchor_output.shape) - 1,
            dtype=problem.dtype,
            left=lambda inputs, g, i, k: inputs[0](*problem.a_index(g, i, k)),
            right=lambda inputs, g, k, j: inputs[1](*problem.b_index(g, k, j)),
        )


def _problem(task: Task) -> MatmulProblem | None:
    if task.anchor != "matmul" or len(task.anchor_inputs) != 2 or len(task.outputs) != 1:
        return None
    a, b, out = (*task.anchor_inputs, task.anchor_output)
    if min(len(a.shape), len(b.shape)) < 2 or task.outputs[0].shape != out.shape:
        return None
    if 0 in (*a.shape, *b.shape) or len({a.dtype, b.dtype, out.dtype}) > 1 or out.dtype not in DTYPES:
        return None
    transpose_a, transpose_b = bool(task.attributes.get("transpose_a")), bool(task.attributes.get("transpose_b"))
    rows, depth = a.shape[-2:][::-1] if transpose_a else a.shape[-2:]
    columns = b.shape[-2] if transpose_b else b.shape[-1]
    batch = tuple(np.broadcast_shapes(a.shape[:-2], b.shape[:-2]))
    shared = math.prod(b.shape[:-2]) == 1
    return MatmulProblem(
        groups=1 if shared else math.prod(batch),
        rows=rows * math.prod(batch) if shared else rows,
        columns=columns,
        depth=depth,
        batch=batch,
        a_shape=a.shape,
        b_shape=b.shape,
        transpose_a=transpose_a,
        transpose_b=transpose_b,
        matrix_rows=rows,
        dtype=out.dtype,
    )
