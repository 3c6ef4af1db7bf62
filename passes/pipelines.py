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
    return _simplification("unroll-recurrent")


def _simplification(recurrent: str) -> Pipeline:
    return Pipeline(f"{_CLEAN},{_AFFINE},{recurrent},{_CLEAN}")


def default_pipeline(target: Any = None) -> Pipeline:
    """From an imported graph to one whose nodes are kernels.

    Args:
        target: the target; without one, or on a GPU, layouts stay plain and recurrent layers are unrolled.
    """
    plain = target is None or target.gpu is not None
    layouts = "" if plain else "assign-layouts,"
    # One step has nothing to loop over, and its parts meet their neighbours as plain operators.
    recurrent = "unroll-recurrent" if plain else "unroll-recurrent{max-steps=1},project-recurrent"
    return _simplification(recurrent) + Pipeline(f"decompose-conv-transpose,lower-qdq,{_CLEAN},{layouts}fuse-operators")
