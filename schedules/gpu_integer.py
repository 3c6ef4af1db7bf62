"""Integer convolutions and matrix products on a GPU by inner products of four bytes (CUDA's `dp4a`).

As `gpu_gemm`, on words of four bytes along K: tiles of words in shared memory, a tile of 32-bit sums in each thread's
registers, and the epilogue down to the bytes that are stored applied to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeir.schedules.fallback import plain_function
from edgeir.schedules.gpu_gemm import KNOBS, Gemm, checked, default_config, scheduled_gemm
from edgeir.schedules.gpu_integer_product import ByteProduct, byte_product, required_product
from edgeir.schedules.gpu_integer_words import dot, has_dot_product, with_instructions
from edgeir.schedules.gpu_stages import schedule_for_gpu
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config
from edgeir.schedules.workspace import workspace_bytes
from edgeir.targets.target import Target

# Fewer rows or columns leave most of a tile idle; a block of threads for each result is better then, unless the right
# operand is packed: its words are neighbours in memory along the columns.
_LEAST_SIDE = 4
_FEW_ROWS = {"threads_m": 4, "threads_n": 32, "each_m": 1, "each_n": 1, "depth": 16}
# Terms of a sum: fewer do not fill two words.
_LEAST_DEPTH = 8


class _OnBytes:
    """What convolutions and products share."""

    name = "gpu_integer"
    anchor = ""

    def match(self, task: Task, target: Target) -> bool:
        """Whether the GPU has the instruction and the task is a product of bytes that fills tiles."""
        if not has_dot_product(target) or task.anchor != self.anchor:
            return False
        product = byte_product(task)
        if product is None or product.columns < _LEAST_SIDE or product.depth < _LEAST_DEPTH:
            return False
        return product.rows >= _LEAST_SIDE or (product.weight is not None and not product.weight.left)

    def space(self, task: Task, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
        """Tile sizes; `depth` counts words."""
        return KNOBS

    def default(self, task: Task, target: Target) -> Config:
        """The largest tile that keeps the processors busy; of a few rows one row for each thread."""
        product = required_product(task)
        return _FEW_ROWS if product.rows < _LEAST_SIDE else default_config(product_gemm(product), target)

    def apply(self, task: Task, config: Config, target: Target) -> Kernel:
        """The scheduled kernel, its constant weight packed into words.

        Raises:
            EdgeIRError: for a config that is not one of the space, or whose block is too large for the target.
        """
        knobs, product = checked(config, self.name, target), required_product(task)
        weight = product.weight
        packed = {} if weight is None else {weight.operand: weight.shape}
        try:
            func = with_instructions(scheduled_gemm(task, product_gemm(product), knobs, target, packed))
        except Exception:  # an epilogue that does not fit: every schedule primitive raises its own types
            func = schedule_for_gpu(plain_function(task), target)
            return Kernel(func, workspace_bytes=workspace_bytes(func))
        pack = {} if weight is None else {weight.operand: weight.pack}
        return Kernel(func, pack, workspace_bytes(func))


class GpuIntegerMatmul(_OnBytes):
    """Matrix products of bytes, batched or not, with a constant or computed right operand."""

    name = "gpu_integer_matmul"
    anchor = "matmul_integer"


class GpuIntegerConv(_OnBytes):
    """Convolutions of bytes in plain layouts with more than a few channels on both sides."""

    name = "gpu_integer_conv"
    anchor = "conv_integer"


def product_gemm(product: ByteProduct) -> Gemm:
    """The product with words as elements."""
    return Gemm(
        groups=product.groups,
        rows=product.rows,
        columns=product.columns,
        depth=product.words,
        out_shape=product.out_shape,
        row_axes=product.row_axes,
        dtype="int32",
        left=lambda inputs, g, i, j: product.left(inputs, g, i, j),
        right=lambda inputs, g, j, n: product.right(inputs, g, n, j),
        multiply=lambda left, right: dot(left, right, product.left_dtype, product.right_dtype),
        along_depth=product.along_depth,
    )
