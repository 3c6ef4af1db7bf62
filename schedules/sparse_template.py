"""Templates for products whose constant weight is mostly zeros: pointwise convolutions and matrix products."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.schedules.conv_stages import check_config
from edgeir.schedules.sparse_cost import best_tile, estimated_gain, parallel_tile, tile_choices
from edgeir.schedules.sparse_dot import sparse_dot
from edgeir.schedules.sparse_epilogue import Epilogue, epilogue_of
from edgeir.schedules.sparse_problem import SparseProblem, sparse_conv, sparse_matmul, weight_rows
from edgeir.schedules.sparse_product import sparse_product, workspace_of
from edgeir.schedules.sparse_storage import pack_rows, stored_words
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.targets.target import Target


class SparseTemplate:
    """What the sparse templates share.

    They match wherever they can schedule a task whose weight has a recorded pattern, so that tuning may choose them by
    measurement; `faster` says whether to prefer them without.
    """

    name: ClassVar[str]
    read_problem: ClassVar[Callable[[Task, Target], SparseProblem | None]]

    def match(self, task: Task, target: Target) -> bool:
        """Float32 products with mostly zeros in their constant weight, and an elementwise epilogue."""
        problem = type(self).read_problem(task, target)
        return problem is not None and _epilogue(task, problem) is not None

    def faster(self, task: Task, target: Target) -> bool:
        """Whether the default is estimated to beat the dense templates."""
        return self.gain(task, target) > 1

    def gain(self, task: Task, target: Target) -> float:
        """Estimated time of the dense kernel over that of the default."""
        return estimated_gain(self._problem(task, target), target)

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """`vectors` of positions with sums in registers (0: dot products), `pieces` of outputs for threads."""
        return tile_choices(self._problem(task, target), target)

    def default(self, task: Task, target: Target) -> Config:
        """The tile with the fewest estimated cycles."""
        return best_tile(self._problem(task, target), target)

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The kernel; its workspace is a tile's transposed input and the sums of one block, for each thread.

        Raises:
            EdgeIRError: for a config outside `space`.
        """
        check_config(self.name, config, self.space(task, target))
        problem = self._problem(task, target)
        epilogue, x = _epilogue(task, problem), task.anchor_operands[0]
        assert epilogue is not None and x is not None
        tile = parallel_tile(problem, config, target)
        rows, pack = weight_rows(task), pack_rows(problem.pattern, problem.stored_rows)

        def stored(weight: np.ndarray) -> np.ndarray:
            return pack(rows(weight))

        if tile.vectors == 0:
            return Kernel(sparse_dot(problem, tile.parallel, epilogue, x), {problem.weight: stored})
        threads = target.cores if tile.parallel else 1
        func = sparse_product(problem, tile, epilogue, x)
        return Kernel(func, {problem.weight: stored}, threads * workspace_of(problem, tile))

    def _problem(self, task: Task, target: Target) -> SparseProblem:
        problem = type(self).read_problem(task, target)
        if problem is None:
            raise EdgeIRError("not a product with a sparse weight", where=task.name, got=task.anchor)
        return problem


class SparsePointwise(SparseTemplate):
    """1x1 convolution with stride 1, activations blocked or plain."""

    name = "sparse_pointwise"
    read_problem = staticmethod(sparse_conv)


class SparseMatmul(SparseTemplate):
    """Product with a constant right matrix: vectors of rows of the left one, or dot products where it has few."""

    name = "sparse_matmul"
    read_problem = staticmethod(sparse_matmul)


def _epilogue(task: Task, problem: SparseProblem) -> Epilogue | None:
    return epilogue_of(task, stored_words(problem.pattern, problem.stored_rows), problem.weight)
