"""Which template schedules a task."""

from __future__ import annotations

from edgeir.schedules.attention import AttentionTemplate
from edgeir.schedules.compressed_conv import CompressedConv
from edgeir.schedules.compressed_integer import CompressedInteger
from edgeir.schedules.compressed_matmul import CompressedMatmul
from edgeir.schedules.conv_depthwise import ConvDepthwise
from edgeir.schedules.conv_direct import ConvDirect
from edgeir.schedules.conv_fallback import ConvFallback
from edgeir.schedules.conv_pointwise import ConvPointwise
from edgeir.schedules.conv_winograd import ConvWinograd
from edgeir.schedules.data_movement import DataMovement
from edgeir.schedules.elementwise import Elementwise
from edgeir.schedules.fallback import Fallback
from edgeir.schedules.gpu_conv import GpuConv
from edgeir.schedules.gpu_fallback import GpuFallback
from edgeir.schedules.gpu_integer import GpuIntegerConv, GpuIntegerMatmul
from edgeir.schedules.gpu_integer_tensor_core import TensorCoreIntegerConv, TensorCoreIntegerMatmul
from edgeir.schedules.gpu_matmul import GpuMatmul
from edgeir.schedules.gpu_tensor_core import TensorCoreConv, TensorCoreMatmul
from edgeir.schedules.integer_conv import IntegerConv
from edgeir.schedules.integer_depthwise import IntegerDepthwise
from edgeir.schedules.integer_matmul import IntegerMatmul
from edgeir.schedules.integer_matmul_computed import IntegerMatmulComputed
from edgeir.schedules.integer_winograd import IntegerWinograd
from edgeir.schedules.matmul_batched import MatmulBatched
from edgeir.schedules.matmul_packed import MatmulPacked
from edgeir.schedules.pooling import Pooling
from edgeir.schedules.recurrent import Recurrent
from edgeir.schedules.reduction import Reduction
from edgeir.schedules.softmax import Softmax
from edgeir.schedules.sparse_template import SparseMatmul, SparsePointwise
from edgeir.schedules.task import Kernel, Task
from edgeir.schedules.template import Config, EstimatedTemplate, Template
from edgeir.targets.target import Target

CPU_TEMPLATES: tuple[Template, ...] = (
    SparsePointwise(),
    SparseMatmul(),
    ConvPointwise(),
    ConvDepthwise(),
    ConvWinograd(),
    ConvDirect(),
    CompressedConv(),
    ConvFallback(),
    CompressedInteger(),
    IntegerDepthwise(),
    IntegerWinograd(),
    IntegerConv(),
    IntegerMatmul(),
    IntegerMatmulComputed(),
    MatmulPacked(),
    CompressedMatmul(),
    MatmulBatched(),
    Recurrent(),
    AttentionTemplate(),
    Softmax(),
    Pooling(),
    Reduction(),
    Elementwise(),
    DataMovement(),
    Fallback(),
)
GPU_TEMPLATES: tuple[Template, ...] = (
    TensorCoreConv(),
    TensorCoreMatmul(),
    TensorCoreIntegerConv(),
    TensorCoreIntegerMatmul(),
    GpuIntegerConv(),
    GpuIntegerMatmul(),
    GpuConv(),
    GpuMatmul(),
    GpuFallback(),
)
"""In order of preference; the last one of each takes every task."""


def templates_for(target: Target) -> tuple[Template, ...]:
    """The templates for a target, in order of preference."""
    return CPU_TEMPLATES if target.gpu is None else GPU_TEMPLATES


def _preferred(template: Template, task: Task, target: Target) -> bool:
    """Whether a template that matches comes before those that follow it; some must be estimated as faster."""
    return not isinstance(template, EstimatedTemplate) or template.faster(task, target)


def select(task: Task, target: Target) -> Template:
    """The first preferred template that can schedule the task on the target."""
    return next(
        template
        for template in templates_for(target)
        if template.match(task, target) and _preferred(template, task, target)
    )


def matching(task: Task, target: Target) -> tuple[Template, ...]:
    """Every template that can schedule the task on the target, in order of preference: what tuning chooses among."""
    found = [template for template in templates_for(target) if template.match(task, target)]
    return tuple(sorted(found, key=lambda template: not _preferred(template, task, target)))


def schedule(task: Task, target: Target, config: Config | None = None) -> Kernel:
    """The task's kernel by its first matching template; the template's default knobs if `config` is None.

    Raises:
        EdgeIRError: the config is not one of the template's.
    """
    template = select(task, target)
    return template.apply(task, template.default(task, target) if config is None else config, target)
