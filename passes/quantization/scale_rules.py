"""Quantization without division.

quantize(x, s, z) → quantize(x/s, 1, z), where the factor 1/s is pushed through linear operators into the scales of
dequantizations and into constants, and multiplies what is not linear:

    quantize(relu(add(dequantize(a, sa), dequantize(b, sb))), s, z)
    → quantize(relu(add(dequantize(a, sa/s), dequantize(b, sb/s))), 1, z)

quantize(clip(x), 1, z) → quantize(x, 1, z) where the integers' range is as narrow as the clip.
"""

from __future__ import annotations

import numpy as np

from edgeir.ir import Node, Value
from edgeir.ops.operands import integer_range
from edgeir.passes.quantization.affine import affine_of, is_single, zero_number
from edgeir.rewrite import Match, Rewriter, RewriteRule, anything, constant, op, single_use

_MOST_DEPTH = 32
_WHOLE_BIAS_STEP = 1 / 1024
"""A bias is rounded to steps of the integer sum only if they are this small, in steps of the result.

A float bias costs no measurable time, and rounding errors of a 16th of a step add up over many layers: with 1/8 a
network of 23 convolutions answered 2 of 1000 images otherwise than the fake-quantized graph, with 1/1024 none.
"""

_POSITIVE = frozenset({"relu", "leaky_relu", "maximum", "minimum", "abs", "clip"})
"""Operators f with f(c·x) = c·f(x) for positive c (constants among their operands scaled)."""


class _Push:
    """Multiplies a value by a factor, as far up as the operators above it allow."""

    def __init__(self, rewriter: Rewriter) -> None:
        self.rewriter = rewriter

    def scaled(self, value: Value, factor: np.ndarray, depth: int = 0) -> Value:
        """`value · factor`; `factor` (float64) broadcasts against `value`."""
        if value.is_constant:
            return self.rewriter.constant((value.data * factor).astype(value.data.dtype), value.name)
        node = value.producer
        if node is not None and depth < _MOST_DEPTH:
            if node.op == "dequantize":
                found = self._dequantize(node, factor)
            elif single_use(value):
                found = self._through(node, factor, depth + 1)
            else:
                found = None
            if found is not None:
                return found
        if (factor == 1).all():
            return value
        numbers = factor.reshape(()) if factor.size == 1 else factor
        return self.rewriter.add("mul", value, self.rewriter.constant(numbers.astype(_float_of(value)), "factor"))

    def _dequantize(self, node: Node, factor: np.ndarray) -> Value | None:
        inner = affine_of(node)
        if not inner.scale.is_constant:
            return None
        scale = inner.scale.data * factor
        if scale.size == 1:
            scale = scale.reshape(())
        elif scale.ndim > inner.q.type.rank:
            return None
        numbers = scale.astype(inner.scale.data.dtype)
        return self.rewriter.add(
            "dequantize", inner.q, self.rewriter.constant(numbers, inner.scale.name), *inner.parameters[1:]
        )

    def _through(self, node: Node, factor: np.ndarray, depth: int) -> Value | None:
        add = self.rewriter.add
        operands = node.present_inputs
        if node.op == "mul":
            return self._product(node, factor, depth)
        if node.op == "div" and operands[1].is_constant and _fits(factor, operands[0]):
            return add("div", self.scaled(operands[0], factor, depth), operands[1])
        if node.op == "neg":
            return add("neg", self.scaled(operands[0], factor, depth))
        if node.op in ("add", "sub"):
            if not all(_fits(factor, value) for value in operands):
                return None
            whole = self._whole_bias(node, factor)
            return whole or add(node.op, *(self.scaled(value, factor, depth) for value in operands))
        if node.op in _POSITIVE and bool((factor > 0).all()) and all(_fits(factor, value) for value in operands):
            attributes = dict(node.attributes)
            if node.op == "clip":
                if factor.size != 1:
                    return None
                for name in ("minimum", "maximum"):
                    bound = attributes[name]
                    attributes[name] = None if bound is None else bound * float(factor.reshape(()))
            return add(node.op, *(self.scaled(value, factor, depth) for value in operands), **attributes)
        if node.op in ("reshape", "transpose", "slice") and factor.size == 1:
            return add(node.op, self.scaled(operands[0], factor, depth), **node.attributes)
        if node.op == "where" and all(_fits(factor, value) for value in operands[1:]):
            return add("where", operands[0], *(self.scaled(value, factor, depth) for value in operands[1:]))
        return None

    def _product(self, node: Node, factor: np.ndarray, depth: int) -> Value | None:
        a, b = node.present_inputs
        for value, other in ((a, b), (b, a)):
            if value.is_constant:
                both = np.asarray(value.data.astype(np.float64) * factor)
                if _fits(both, other) and other.type.shape == node.output.type.shape:
                    return self.scaled(other, both, depth)
                if not _fits(factor, other):
                    return None
                return self.rewriter.add("mul", value, self.scaled(other, factor, depth))
        # Scaling either factor scales the product; a dequantization takes it for nothing.
        for value, other in ((a, b), (b, a)):
            if value.producer is not None and value.producer.op == "dequantize" and _fits(factor, value):
                return self.rewriter.add("mul", self.scaled(value, factor, depth), other)
        for value, other in ((a, b), (b, a)):
            if _fits(factor, value) and single_use(value):
                return self.rewriter.add("mul", self.scaled(value, factor, depth), other)
        return None

    def _whole_bias(self, node: Node, factor: np.ndarray) -> Value | None:
        """dequantize(conv_integer(x, w), s)·f + b·f → dequantize(conv_integer(x, w, round(b/s)), s·f), s·f being small.

        In steps of the result the error is at most half of s·f.
        """
        if node.op != "add" or factor.size != 1:
            return None
        for y, bias in (node.present_inputs, node.present_inputs[::-1]):
            inner = None if y.producer is None or y.producer.op != "dequantize" else affine_of(y.producer)
            if inner is None or not bias.is_constant or not inner.scale.is_constant or inner.zero is not None:
                continue
            total = inner.q.producer
            if total is None or total.op != "conv_integer" or not single_use(inner.q) or not single_use(y):
                continue
            if len(total.inputs) > 2 and total.inputs[2] is not None:
                continue
            found = _whole_steps(total, inner.scale.data, bias.data, float(factor.reshape(())))
            if found is None:
                continue
            steps, scale = found
            operands = [*total.inputs[:2], self.rewriter.constant(steps, bias.name), *total.inputs[3:]]
            q = self.rewriter.add("conv_integer", *operands, location=total.location, **total.attributes)
            numbers = scale.astype(inner.scale.data.dtype)
            return self.rewriter.add("dequantize", q, self.rewriter.constant(numbers, inner.scale.name))
        return None


def _whole_steps(
    node: Node, scale: np.ndarray, bias: np.ndarray, factor: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Bias (O) in steps, and scale times factor of a `conv_integer` with a float bias.

    None if the bias cannot be whole steps: they are too large, or so small that it might not fit 32 bits.
    """
    channels = node.output.type.shape[1]
    if not isinstance(channels, int):
        return None
    column = (channels, *(1,) * (node.output.type.rank - 2))
    if bias.shape not in ((), column) or scale.shape not in ((), column):
        return None
    result = np.broadcast_to(scale.astype(np.float64) * factor, column).copy()
    wanted = np.broadcast_to(bias.astype(np.float64) * factor, column)
    if np.abs(result).max() > _WHOLE_BIAS_STEP or (result == 0).any():
        return None
    steps = np.rint(wanted / result)
    if not np.isfinite(steps).all() or np.abs(steps).max() >= 2**30:
        return None
    if (result == result.reshape(-1)[0]).all():
        result = result.reshape(-1)[0].reshape(())
    return steps.reshape(-1).astype(np.int32), result


def _fits(factor: np.ndarray, value: Value) -> bool:
    """Whether the factor broadcasts against a value without enlarging it."""
    if factor.size == 1 and factor.ndim <= value.type.rank:
        return True
    shape = value.type.shape
    if factor.ndim > len(shape):
        return factor.size == 1
    tail = shape[len(shape) - factor.ndim :]
    return all(size in (1, dim) for size, dim in zip(factor.shape, tail, strict=True))


def _float_of(value: Value) -> str:
    return value.type.dtype if "float" in value.type.dtype else "float32"


class PushScale(RewriteRule):
    """quantize(x, s, z) → quantize(x/s, 1, z)."""

    name = "push-scale"
    pattern = op(
        "quantize",
        anything("x", where=lambda value: value.type.dtype == "float32"),
        anything("scale"),
        anything("zero"),
        where=lambda node: not _is_one(node.input(1)),
    )

    def check(self, match: Match) -> str | None:
        """The scale must be one constant number above zero; the result must be of integers."""
        scale = match["scale"]
        if not scale.is_constant:
            # Its reciprocal would have to be rounded, and so the quotients that lie halfway between two integers.
            return "the scale is computed"
        if not is_single(scale) or scale.type.dtype != "float32":
            return "the scale varies, or is not float32"
        if "float" in match.root.output.type.dtype:
            return "the result is not of integers"
        if not (np.isfinite(1 / scale.data).all() and (scale.data > 0).all()):
            return "the scale is not a positive number"
        return None if match["x"].type.elements != 0 else "there is nothing to quantize"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Divides the scales above."""
        one = rewriter.constant(np.array(1, np.float32), "one")
        x = _Push(rewriter).scaled(match["x"], 1 / match.array("scale").astype(np.float64).reshape(()))
        rewriter.replace(rewriter.add("quantize", x, one, match["zero"]))


def _is_one(scale: Value) -> bool:
    return scale.is_constant and scale.data.size == 1 and bool(scale.data.reshape(()) == 1)


class ClampOfQuantize(RewriteRule):
    """quantize(clip(x), 1, z) → quantize(x, 1, z) where saturation does what clip did; relu, too."""

    name = "clamp-of-quantize"
    pattern = op(
        "quantize",
        op(("relu", "clip", "maximum", "minimum"), anything("x"), single_use=True, name="clamp"),
        constant("scale", where=lambda array: array.size == 1 and bool(array.reshape(()) == 1)),
        constant("zero", where=lambda array: array.size == 1),
    )

    def check(self, match: Match) -> str | None:
        """A bound within half a step of the range's end (or beyond) changes no result."""
        if match.root.output.type.dtype not in ("int8", "uint8", "int4", "uint4", "int16", "uint16"):
            return "the result is not of narrow integers"
        if match.node("clamp").input(0).type != match["clamp"].type:
            return "the bound is no constant on the right"
        return None if self._rest(match) is not None else "the bounds are within the range of the integers"

    def rewrite(self, match: Match, rewriter: Rewriter) -> None:
        """Drops the bounds that saturation has."""
        rest, clamp = self._rest(match), match.node("clamp")
        assert rest is not None
        x = clamp.input(0)
        if any(bound is not None for bound in rest):
            x = rewriter.add("clip", x, minimum=rest[0], maximum=rest[1])
        rewriter.replace(rewriter.add("quantize", x, match["scale"], match["zero"]))

    def _rest(self, match: Match) -> tuple[float | None, float | None] | None:
        """The bounds that remain; None if all do, or if they are no numbers."""
        clamp, zero = match.node("clamp"), zero_number(match["zero"])
        assert zero is not None
        low, high = (bound - zero for bound in integer_range(match.root.output.type.dtype))
        if clamp.op == "relu":
            bounds: tuple[float | None, float | None] = (0.0, None)
        elif clamp.op == "clip":
            bounds = (clamp.attributes["minimum"], clamp.attributes["maximum"])
        else:
            bound = clamp.input(1)
            if not bound.is_constant or bound.data.size != 1:
                return None
            number = float(bound.data.reshape(()))
            bounds = (number, None) if clamp.op == "maximum" else (None, number)
        minimum, maximum = bounds
        rest = (
            None if minimum is not None and minimum < low + 0.5 else minimum,
            None if maximum is not None and maximum > high - 0.5 else maximum,
        )
        return None if rest == bounds else rest


SCALE_RULES: tuple[RewriteRule, ...] = (PushScale(), ClampOfQuantize())
