"""The pipelines that are run by default."""

from __future__ import annotations

from typing import Any

from edgeir.passmanager import Pipeline

_CLEAN = "canonicalize,fold-constants,common-subexpressions,dead-code"
# A bias in the way of a scale goes first, and the scale may leave another bias.
_AFFINE = "fold-pad,fold-batch-norm,fold-bias,fold-scale,fold-bias"


def simplification_pipeline(target: Any = None) -> Pipeline:
    """Everything that keeps the graph made of plain operators; what compression passes should see.

    Args:
        target: the target; the pipeline is the same for all targets today.
    """
    return Pipeline(f"{_CLEAN},{_AFFINE},unroll-recurrent,{_CLEAN}")


def default_pipeline(target: Any = None) -> Pipeline:
    """From an imported graph to one whose nodes are kernels.

    Args:
        target: the target; without one, or on a GPU, layouts stay plain.
    """
    layouts = "" if target is None or target.gpu is not None else "assign-layouts,"
    return simplification_pipeline(target) + Pipeline(
        f"decompose-conv-transpose,lower-qdq,{_CLEAN},{layouts}fuse-operators"
    )
