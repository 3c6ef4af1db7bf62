"""Removes batch normalization.

With s = scale / √(variance + ε) and t = bias − mean·s:

    %y = conv(%x, %w, %b) {…}
    %z = batch_norm(%y, %scale, %bias, %mean, %variance) {epsilon = 1e-05}

becomes `conv(%x, w·s, b·s + t)`, where w is constant and nothing else reads %y; elsewhere it becomes `%y·s + t` with s
and t of shape (C, 1, 1, …).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgeir.ir import Graph, Node, Value
from edgeir.passes.folding.channels import CONVOLUTIONS, bias_array, scaled_weights, why_not_linear
from edgeir.passmanager import Pass, PassContext, register_pass
from edgeir.rewrite import Match, Rewriter, RewriteRule, anything, constant, op


def affine(match: Match) -> tuple[np.ndarray, np.ndarray]:
    """s and t in float64, one element per channel."""
    scale, bias, mean, variance = (match.array(key).astype(np.float64) for key in ("scale", "bias", "mean", "variance"))
    s = scale / np.sqrt(variance + match.root.attributes["epsilon"])
    return s, bias - mean * s


_PARAMETERS = tuple(constant(key) for key in ("scale", "bias", "mean", "variance"))


class BatchNormIntoConv(RewriteRule):
    """batch_norm(conv(x, w, b)) → conv(x, w·s, b·s + t)."""

    name = "batch-norm-into-conv"
    pattern = op("batch_norm", op(CONVOLUTIONS, single_use=True, name="conv"), *_PARAMETERS)

    def check(self, match: Match) -> str | None:
        """The weights must be constant."""
        return why_not_linear(match.node("conv"))

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Computes new weights and a new bias."""
        conv = match.node("conv")
        s, t = affine(match)
        weights = rewriter.constant(scaled_weights(conv, s), conv.input(1).name)
        bias = (bias_array(conv) * s + t).astype(weights.data.dtype)
        operands = conv.input(0), weights, rewriter.constant(bias, f"{conv.output.name}_bias")
        rewriter.replace(rewriter.add(conv.op, *operands, location=conv.location, **conv.attributes))


class BatchNormIntoMatmul(RewriteRule):
    """batch_norm(matmul(x, w)) → matmul(x, w·s) + t, for a result of rank 2, whose channels are its columns."""

    name = "batch-norm-into-matmul"
    pattern = op("batch_norm", op("matmul", single_use=True, name="matmul"), *_PARAMETERS)

    def check(self, match: Match) -> str | None:
        """The weights must be one constant matrix."""
        matmul = match.node("matmul")
        return why_not_linear(matmul) if matmul.output.type.rank == 2 else "the channels are not the last axis"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Computes new weights and adds t."""
        matmul = match.node("matmul")
        s, t = affine(match)
        weights = rewriter.constant(scaled_weights(matmul, s), matmul.input(1).name)
        scaled = rewriter.add("matmul", matmul.input(0), weights, location=matmul.location, **matmul.attributes)
        rewriter.replace(
            rewriter.add("add", scaled, rewriter.constant(t.astype(weights.data.dtype), f"{matmul.output.name}_bias"))
        )


class BatchNormToAffine(RewriteRule):
    """batch_norm(x) → x·s + t."""

    name = "batch-norm-to-affine"
    pattern = op("batch_norm", anything("x"), *_PARAMETERS)

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Adds the two operators."""
        x = match["x"]
        shape = (-1, *(1,) * (x.type.rank - 2))
        s, t = (
            rewriter.constant(
                array.astype(match.array("scale").dtype).reshape(shape), f"{match.root.output.name}_{key}"
            )
            for key, array in zip(("scale", "shift"), affine(match), strict=True)
        )
        dtype = x.type.dtype
        rewriter.replace(rewriter.add("add", rewriter.add("mul", x, _as(s, dtype, rewriter)), _as(t, dtype, rewriter)))


class DynamicBatchNorm(RewriteRule):
    """batch_norm with parameters that are computed → the same arithmetic as operators."""

    name = "dynamic-batch-norm"
    pattern = op("batch_norm", *(anything(key) for key in ("x", "scale", "bias", "mean", "variance")))

    def check(self, match: Match) -> str | None:
        """Constant parameters have the other rules."""
        return "the parameters are constant" if _all_constant(match.root) else None

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Adds the operators."""
        x = match["x"]
        shape = (x.type.shape[1], *(1,) * (x.type.rank - 2))
        scale, bias, mean, variance = (
            rewriter.add("reshape", _as(match[key], x.type.dtype, rewriter), shape=shape)
            for key in ("scale", "bias", "mean", "variance")
        )
        epsilon = rewriter.constant(np.array(match.root.attributes["epsilon"], _numpy(x)), "epsilon")
        s = rewriter.add("div", scale, rewriter.add("sqrt", rewriter.add("add", variance, epsilon)))
        centred = rewriter.add("sub", x, mean)
        rewriter.replace(rewriter.add("add", rewriter.add("mul", centred, s), bias))


def _all_constant(node: Node) -> bool:
    return all(value.is_constant for value in node.present_inputs[1:])


def _numpy(value: Value) -> np.dtype:
    from edgeir.ir.dtype import numpy_dtype

    return numpy_dtype(value.type.dtype)


def _as(value: Value, dtype: str, rewriter: Rewriter) -> Value:
    return value if value.type.dtype == dtype else rewriter.add("cast", value, dtype=dtype)


@register_pass
@dataclass(frozen=True)
class FoldBatchNorm(Pass):
    """Folds batch normalization into the operator before it, or makes it a multiplication and an addition."""

    name: ClassVar[str] = "fold-batch-norm"

    def run(self, graph: Graph, context: PassContext) -> None:
        """Rewrites the graph; no `batch_norm` is left."""
        context.apply(graph, (BatchNormIntoConv(), BatchNormIntoMatmul(), BatchNormToAffine(), DynamicBatchNorm()))
