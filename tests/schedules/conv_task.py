"""Makes convolution tasks by hand, as lowering would, and runs their kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import te, tirx

from edgeir.schedules.conv_stages import reduce_axis, stage
from edgeir.schedules.task import AnchorCompute, Kernel, Operand, Task, TensorSpec
from edgeir.schedules.template import Config, Template
from edgeir.targets.target import Target


@dataclass(frozen=True)
class ConvCase:
    """A convolution to test: logical numbers, the blocks of its activations (0: plain) and its epilogue."""

    in_channels: int
    out_channels: int
    spatial: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int = 1
    batch: int = 1
    in_block: int = 0
    out_block: int = 0
    epilogue: str = "bias"
    prologue: bool = False
    constant_weight: bool = True

    @property
    def out_spatial(self) -> tuple[int, ...]:
        rank = len(self.kernel)
        return tuple(
            (self.spatial[i] + self.padding[i] + self.padding[rank + i] - (self.kernel[i] - 1) * self.dilations[i] - 1)
            // self.strides[i]
            + 1
            for i in range(rank)
        )


def spec(batch: int, channels: int, spatial: Sequence[int], block: int) -> TensorSpec:
    """The tensor of an activation in blocked or plain layout."""
    if not block:
        return TensorSpec((batch, channels, *spatial), "float32", {1: "NCW", 2: "NCHW", 3: "NCDHW"}[len(spatial)])
    return TensorSpec((batch, -(-channels // block), *spatial, block), "float32", f"NCHW{block}c")


def to_blocked(x: np.ndarray, block: int, fill: float) -> np.ndarray:
    """A plain activation in blocked layout; lanes beyond the channels hold `fill`."""
    if not block:
        return x
    n, c, *spatial = x.shape
    full = np.full((n, -(-c // block) * block, *spatial), fill, x.dtype)
    full[:, :c] = x
    full = full.reshape(n, -1, block, *spatial)
    return np.ascontiguousarray(np.moveaxis(full, 2, -1))


def to_plain(y: np.ndarray, block: int, channels: int) -> np.ndarray:
    """The inverse of `to_blocked`, without the lanes beyond the channels."""
    if not block:
        return y
    moved = np.moveaxis(y, -1, 2)
    return moved.reshape(moved.shape[0], -1, *moved.shape[3:])[:, :channels]


def plain_conv(case: ConvCase) -> AnchorCompute:
    """The convolution as its definition says, in the case's layouts."""

    def compute(inputs: Sequence[te.Tensor]) -> te.Tensor:
        x, w = inputs
        rank, block = len(case.kernel), case.in_block
        in_group, out_group = case.in_channels // case.groups, case.out_channels // case.groups

        def element(*index: Any) -> Any:
            n, spatial = index[0], index[2 : 2 + rank]
            o = index[1] * case.out_block + index[-1] if case.out_block else index[1]
            i = reduce_axis(in_group, "i")
            ks = [reduce_axis(extent, f"k{axis}") for axis, extent in enumerate(case.kernel)]
            at = [spatial[a] * case.strides[a] + ks[a] * case.dilations[a] - case.padding[a] for a in range(rank)]
            inside = tirx.all(*[tirx.all(p >= 0, p < extent) for p, extent in zip(at, case.spatial, strict=True)])
            channel = o // out_group * in_group + i
            value = x(n, channel // block, *at, channel % block) if block else x(n, channel, *at)
            value = tirx.if_then_else(tirx.all(inside, o < case.out_channels), value, tirx.const(0.0, "float32"))
            weight = w(tirx.min(o, case.out_channels - 1), i, *ks)
            return te.sum(value * weight, axis=[i, *ks])

        return stage(spec(case.batch, case.out_channels, case.out_spatial, case.out_block).shape, element, "plain_conv")

    return compute


def conv_task(case: ConvCase) -> Task:
    """A task whose body is the convolution, a bias and the case's epilogue."""
    x = spec(case.batch, case.in_channels, case.spatial, case.in_block)
    y = spec(case.batch, case.out_channels, case.out_spatial, case.out_block)
    w = TensorSpec((case.out_channels, case.in_channels // case.groups, *case.kernel), "float32")
    bias_shape = (*y.shape[1:2], case.out_block) if case.out_block else y.shape[1:2]
    operands = [Operand("x", x), Operand("w", w, constant=case.constant_weight)]
    if case.epilogue != "none":
        operands.append(Operand("bias", TensorSpec(bias_shape, "float32"), constant=True))
    if case.epilogue == "residual":
        operands.append(Operand("residual", y))

    def build(
        anchor: AnchorCompute | None = None, packed: Mapping[int, tuple[int, ...]] | None = None
    ) -> tuple[list[te.Tensor], list[te.Tensor]]:
        shapes = [(packed or {}).get(index, operand.spec.shape) for index, operand in enumerate(operands)]
        tensors = [te.placeholder(s, "float32", name=o.name) for s, o in zip(shapes, operands, strict=True)]
        inputs = tensors[:2]
        if case.prologue:
            inputs[0] = stage(x.shape, lambda *i: te.abs(tensors[0](*i)), "prologue")
        result = (anchor or plain_conv(case))(inputs)
        if case.epilogue == "none":
            return tensors, [result]
        bias = tensors[2]
        biased = stage(
            y.shape,
            lambda *i: result(*i) + (bias(i[1], i[-1]) if case.out_block else bias(i[1])),
            name="biased",
        )
        zero, three, six = (tirx.const(value, "float32") for value in (0.0, 3.0, 6.0))
        if case.epilogue == "bias":
            return tensors, [biased]
        if case.epilogue == "relu6":
            clipped = stage(y.shape, lambda *i: te.max(te.min(biased(*i), six), zero), name="clipped")
            return tensors, [clipped]
        if case.epilogue == "residual":
            added = stage(y.shape, lambda *i: biased(*i) + tensors[3](*i), name="added")
            return tensors, [stage(y.shape, lambda *i: te.max(added(*i), zero), name="activated")]
        gate = stage(y.shape, lambda *i: te.max(te.min(biased(*i) + three, six), zero), name="gate")
        return tensors, [stage(y.shape, lambda *i: biased(*i) * gate(*i) / six, name="hard_swish")]

    return Task(
        name="conv_kernel",
        anchor="conv",
        attributes={
            "strides": case.strides,
            "padding": case.padding,
            "dilations": case.dilations,
            "groups": case.groups,
        },
        anchor_inputs=(x, w),
        anchor_output=y,
        anchor_operands=(None if case.prologue else 0, 1),
        operands=tuple(operands),
        outputs=(y,),
        build=build,
        key=repr(case),
    )


def reference(case: ConvCase, x: np.ndarray, w: np.ndarray, bias: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """The case computed in float64 with numpy, one kernel position at a time; plain layout."""
    rank = len(case.kernel)
    pads = [(0, 0), (0, 0)] + [(case.padding[i], case.padding[rank + i]) for i in range(rank)]
    padded = np.pad(x.astype(np.float64), pads)
    n, groups = case.batch, case.groups
    y = np.zeros((n, groups, case.out_channels // groups, *case.out_spatial))
    grouped = w.astype(np.float64).reshape(groups, case.out_channels // groups, -1, *case.kernel)
    for position in np.ndindex(*case.kernel):
        window = tuple(
            slice(p * d, p * d + (out - 1) * s + 1, s)
            for p, d, out, s in zip(position, case.dilations, case.out_spatial, case.strides, strict=True)
        )
        part = padded[(slice(None), slice(None), *window)].reshape(n, groups, -1, *case.out_spatial)
        y += np.einsum("ngi...,goi->ngo...", part, grouped[(slice(None), slice(None), slice(None), *position)])
    y = y.reshape(n, case.out_channels, *case.out_spatial)
    if case.epilogue == "none":
        return y
    y = y + bias.reshape(-1, *[1] * rank)
    if case.epilogue == "relu6":
        return np.clip(y, 0, 6)
    if case.epilogue == "residual":
        return np.maximum(y + residual, 0)
    if case.epilogue == "hard_swish":
        return y * np.clip(y + 3, 0, 6) / 6
    return y


def kernel_arguments(case: ConvCase, kernel: Kernel, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Packed arguments of the kernel (outputs included, filled with NaN), and the expected plain output."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((case.batch, case.in_channels, *case.spatial)).astype(np.float32)
    fan_in = case.in_channels // case.groups * int(np.prod(case.kernel))
    w = rng.standard_normal((case.out_channels, case.in_channels // case.groups, *case.kernel)) / np.sqrt(fan_in)
    w = w.astype(np.float32)
    bias = rng.standard_normal(case.out_channels).astype(np.float32)
    residual = rng.standard_normal((case.batch, case.out_channels, *case.out_spatial)).astype(np.float32)
    expected = reference(case, np.abs(x) if case.prologue else x, w, bias, residual)
    # Lanes beyond the channels may hold anything finite: a template must not let them reach a real output.
    arguments = [to_blocked(x, case.in_block, 1e3), kernel.pack[1](w) if 1 in kernel.pack else w]
    if case.epilogue != "none":
        arguments.append(to_blocked(bias.reshape(1, -1), case.out_block, 0.0)[0])
    if case.epilogue == "residual":
        arguments.append(to_blocked(residual, case.out_block, 1e3))
    output = spec(case.batch, case.out_channels, case.out_spatial, case.out_block)
    arguments.append(np.full(output.shape, np.nan, np.float32))
    return arguments, expected


def compile_kernel(kernel: Kernel, target: Target) -> tvm.runtime.Module:
    """The kernel as a loaded module; its function is called `conv_kernel`."""
    module = tvm.IRModule({"conv_kernel": kernel.func})
    return tvm.tirx.build(module, target=tvm.target.Target(target.tvm_config()))


def check_case(
    template: Template, case: ConvCase, target: Target, config: Config | None = None, run: bool = True
) -> None:
    """Schedules, builds and (if the target runs here) runs a case; compares with the reference."""
    task = conv_task(case)
    assert template.match(task, target), case
    kernel = template.apply(task, config or template.default(task, target), target)
    module = compile_kernel(kernel, target)
    if not run:
        return
    arguments, expected = kernel_arguments(case, kernel)
    tensors = [tvm.runtime.tensor(a) for a in arguments]
    module["conv_kernel"](*tensors)
    got = to_plain(tensors[-1].numpy(), case.out_block, case.out_channels)
    assert np.isfinite(tensors[-1].numpy()).all()
    tolerance = 5e-4 if template.name == "conv_winograd" else 1e-4
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
