"""Convolution templates against a numpy reference, over layouts, ragged shapes, strides, dilations and groups."""

from __future__ import annotations

import platform

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeir.errors import EdgeIRError
from edgeir.schedules.conv_depthwise import ConvDepthwise
from edgeir.schedules.conv_direct import ConvDirect
from edgeir.schedules.conv_fallback import ConvFallback
from edgeir.schedules.conv_pointwise import ConvPointwise
from edgeir.schedules.conv_winograd import ConvWinograd
from edgeir.schedules.template import Template
from edgeir.targets.target import Target
from tests.schedules.conv_task import ConvCase, check_case, conv_task

AVX2 = Target(
    "avx2", "x86_64-linux-gnu", cpu="x86-64-v3", vector_bits=256, fma=True, fma_per_cycle=2, l2_bytes=512 << 10, cores=2
)
SSE = Target("sse", "x86_64-linux-gnu", cpu="x86-64-v2", vector_bits=128)
AVX512 = Target(
    "avx512", "x86_64-linux-gnu", cpu="x86-64-v4", features=("-prefer-256-bit",), vector_bits=512, vector_registers=32,
    fma=True, fma_per_cycle=2, cores=2,
)  # fmt: skip
NEON = Target("neon", "aarch64-linux-gnu", cpu="cortex-a72", vector_bits=128, vector_registers=32, fma=True, cores=4)
TEMPLATES: list[Template] = [ConvPointwise(), ConvDepthwise(), ConvWinograd(), ConvDirect(), ConvFallback()]


def host_features() -> set[str]:
    try:
        with open("/proc/cpuinfo") as lines:
            return next((set(line.split()) for line in lines if line.startswith("flags")), set())
    except OSError:
        return set()


FEATURES = host_features()
NEEDED = {"sse": {"sse4_2", "popcnt"}, "avx2": {"avx2", "fma"}, "avx512": {"avx512f", "avx512vl", "avx512dq"}}


def runs_here(target: Target) -> bool:
    """Whether this machine can run code for the target (else tests build it only)."""
    return platform.machine() == "x86_64" and NEEDED.get(target.name, {"none"}) <= FEATURES


def first_match(case: ConvCase, target: Target) -> Template:
    task = conv_task(case)
    return next(template for template in TEMPLATES if template.match(task, target))


def named(name: str) -> Template:
    return next(template for template in TEMPLATES if template.name == name)


def square(channels_in: int, channels_out: int, size: int, kernel: int, stride: int = 1, **more: object) -> ConvCase:
    pad = kernel // 2
    values = {
        "spatial": (size, size), "kernel": (kernel, kernel), "strides": (stride, stride), "padding": (pad,) * 4,
        "dilations": (1, 1), **more,
    }  # fmt: skip
    return ConvCase(channels_in, channels_out, **values)


CASES = {
    "pointwise": ("conv_pointwise", square(64, 96, 7, 1, in_block=8, out_block=8, epilogue="residual")),
    "pointwise_ragged_channels": ("conv_pointwise", square(20, 33, 13, 1, in_block=8, out_block=8)),
    "pointwise_one_pixel": ("conv_pointwise", square(130, 72, 1, 1, in_block=8, out_block=8, epilogue="none")),
    "pointwise_batch": ("conv_pointwise", square(16, 24, 10, 1, in_block=8, out_block=8, batch=3)),
    "pointwise_mixed_blocks": ("conv_pointwise", square(24, 32, 9, 1, in_block=8, out_block=16, epilogue="relu6")),
    "pointwise_grouped": ("conv_pointwise", square(32, 64, 6, 1, in_block=8, out_block=8, groups=2)),
    "pointwise_strided": ("conv_direct", square(16, 32, 15, 1, 2, in_block=8, out_block=8)),
    "pointwise_padded": ("conv_direct", square(16, 32, 5, 1, in_block=8, out_block=8, padding=(1, 0, 2, 1))),
    "first_layer": ("conv_direct", square(3, 24, 31, 3, 2, out_block=8, epilogue="hard_swish")),
    "first_layer_7x7": ("conv_direct", square(3, 16, 30, 7, 2, out_block=8, epilogue="relu6")),
    "direct": ("conv_direct", square(24, 40, 14, 3, in_block=8, out_block=8, epilogue="residual")),
    "direct_small_image": ("conv_direct", square(40, 24, 3, 3, in_block=8, out_block=8, epilogue="hard_swish")),
    "direct_ragged_channels": ("conv_direct", square(13, 21, 11, 3, in_block=8, out_block=8, epilogue="relu6")),
    "direct_dilated": ("conv_direct", square(8, 16, 19, 3, in_block=8, out_block=8, dilations=(2, 3))),
    "direct_asymmetric": (
        "conv_direct",
        ConvCase(8, 8, (12, 13), (5, 2), (1, 2), (2, 1, 0, 3), (1, 1), in_block=8, out_block=8),
    ),
    "direct_grouped": ("conv_direct", square(32, 48, 9, 3, in_block=8, out_block=8, groups=2)),
    "direct_plain": ("conv_direct", square(5, 7, 12, 3, epilogue="relu6")),
    "direct_plain_output": ("conv_direct", square(16, 20, 12, 3, in_block=8)),
    "direct_wide_block": ("conv_direct", square(16, 32, 8, 5, in_block=16, out_block=16)),
    "direct_narrow_block": ("conv_direct", square(12, 8, 8, 3, in_block=4, out_block=4)),
    "winograd": ("conv_winograd", square(32, 48, 28, 3, in_block=8, out_block=8, epilogue="residual")),
    "winograd_ragged": ("conv_winograd", square(29, 43, 21, 3, in_block=8, out_block=8, epilogue="relu6", batch=2)),
    "winograd_asymmetric": ("conv_winograd", square(32, 64, 17, 3, in_block=8, out_block=8, padding=(0, 2, 1, 0))),
    "winograd_many_channels": ("conv_winograd", square(256, 128, 7, 3, in_block=8, out_block=8, epilogue="none")),
    "winograd_prologue": ("conv_winograd", square(32, 48, 12, 3, in_block=8, out_block=8, prologue=True)),
    "pointwise_prologue": ("conv_pointwise", square(24, 40, 9, 1, in_block=8, out_block=8, prologue=True)),
    "direct_prologue": ("conv_direct", square(24, 16, 9, 5, in_block=8, out_block=8, prologue=True)),
    "depthwise_prologue": ("conv_depthwise", square(24, 24, 9, 3, groups=24, in_block=8, out_block=8, prologue=True)),
    "fallback_prologue": ("conv_fallback", square(24, 24, 9, 3, groups=4, prologue=True)),
    "depthwise": ("conv_depthwise", square(24, 24, 15, 3, groups=24, in_block=8, out_block=8, epilogue="relu6")),
    "depthwise_strided": ("conv_depthwise", square(24, 24, 15, 3, 2, groups=24, in_block=8, out_block=8)),
    "depthwise_ragged": ("conv_depthwise", square(21, 21, 9, 5, groups=21, in_block=8, out_block=8)),
    "depthwise_5_strided": ("conv_depthwise", square(16, 16, 28, 5, 2, groups=16, in_block=8, out_block=8)),
    "depthwise_7": ("conv_depthwise", square(8, 8, 14, 7, groups=8, in_block=8, out_block=8, epilogue="hard_swish")),
    "depthwise_dilated": (
        "conv_depthwise",
        square(8, 8, 17, 3, groups=8, in_block=8, out_block=8, dilations=(2, 2), padding=(2, 2, 2, 2)),
    ),
    "depthwise_asymmetric": (
        "conv_depthwise",
        square(8, 8, 16, 3, 2, groups=8, in_block=8, out_block=8, padding=(0, 0, 1, 1), epilogue="residual"),
    ),
    "depthwise_tiny": ("conv_depthwise", square(8, 8, 2, 3, groups=8, in_block=8, out_block=8)),
    "depthwise_multiplier": ("conv_fallback", square(8, 16, 9, 3, groups=8, in_block=8, out_block=8)),
    "depthwise_plain": ("conv_fallback", square(6, 6, 21, 3, groups=6)),
    "depthwise_plain_strided": ("conv_fallback", square(6, 6, 21, 3, 2, groups=6, epilogue="hard_swish")),
    "narrow_groups": ("conv_fallback", square(32, 32, 10, 3, groups=8, in_block=8, out_block=8, epilogue="relu6")),
    "computed_weight": ("conv_fallback", square(10, 12, 9, 3, constant_weight=False)),
    "computed_weight_blocked": (
        "conv_fallback",
        square(10, 13, 9, 3, in_block=8, out_block=8, constant_weight=False, epilogue="residual"),
    ),
    "one_axis": ("conv_fallback", ConvCase(3, 130, (40,), (5,), (2,), (2, 1), (1,), epilogue="relu6")),
    "one_axis_one_output": ("conv_fallback", ConvCase(130, 20, (4,), (4,), (1,), (0, 0), (1,))),
    "three_axes": (
        "conv_fallback",
        ConvCase(4, 6, (5, 6, 7), (3, 2, 3), (1, 2, 1), (1, 0, 1, 1, 0, 1), (1, 1, 1), epilogue="hard_swish"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_case_on_avx2(name: str) -> None:
    expected, case = CASES[name]
    if expected == "conv_fallback":
        assert first_match(case, AVX2).name == expected
    check_case(named(expected), case, AVX2, run=runs_here(AVX2))


@pytest.mark.parametrize(
    "name", ["pointwise", "direct_ragged_channels", "depthwise_strided", "first_layer", "one_axis", "winograd"]
)
@pytest.mark.parametrize("target", [SSE, AVX512, NEON], ids=lambda target: target.name)
def test_case_on_other_targets(name: str, target: Target) -> None:
    expected, case = CASES[name]
    check_case(named(expected), case, target, run=runs_here(target))


@pytest.mark.parametrize("name", ["pointwise", "direct", "depthwise", "depthwise_plain"])
def test_fallback_takes_what_others_take(name: str) -> None:
    check_case(ConvFallback(), CASES[name][1], AVX2, run=runs_here(AVX2))


@pytest.mark.parametrize(
    "name", ["pointwise", "direct", "depthwise", "narrow_groups", "depthwise_plain", "direct_plain", "winograd"]
)
def test_every_end_of_the_space_is_right(name: str) -> None:
    expected, case = CASES[name]
    template, task = named(expected), conv_task(case)
    space = template.space(task, AVX2)
    default = dict(template.default(task, AVX2))
    assert all(default[knob] in values for knob, values in space.items())
    for knob, values in space.items():
        for value in {values[0], values[-1]}:
            check_case(template, case, AVX2, {**default, knob: value}, run=runs_here(AVX2))


def test_config_outside_the_space_is_refused() -> None:
    case = CASES["pointwise"][1]
    task = conv_task(case)
    config = {**ConvPointwise().default(task, AVX2), "blocks": 5}
    with pytest.raises(EdgeIRError, match="blocks"):
        ConvPointwise().apply(task, config, AVX2)
    with pytest.raises(EdgeIRError, match="wrong knobs"):
        ConvPointwise().apply(task, {"blocks": 1}, AVX2)


@st.composite
def cases(draw: st.DrawFn) -> ConvCase:
    kernel = (draw(st.sampled_from([1, 2, 3, 5])), draw(st.sampled_from([1, 2, 3, 5])))
    strides = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    dilations = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    padding = tuple(draw(st.integers(0, 2)) for _ in range(4))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    spatial = tuple(draw(st.integers(r, 57 if i else 20)) for i, r in enumerate(reach))
    kind = draw(st.sampled_from(["dense", "grouped", "depthwise"]))
    if kind == "depthwise":
        groups = channels_in = channels_out = draw(st.integers(1, 40))
    else:
        groups = 1 if kind == "dense" else draw(st.sampled_from([2, 3, 4]))
        most = 130 if kind == "dense" else 24
        channels_in, channels_out = groups * draw(st.integers(1, most)), groups * draw(st.integers(1, most))
    return ConvCase(
        channels_in, channels_out, spatial, kernel, strides, padding, dilations, groups,
        batch=draw(st.integers(1, 2)), in_block=draw(st.sampled_from([0, 4, 8, 16])),
        out_block=draw(st.sampled_from([0, 4, 8, 16])),
        epilogue=draw(st.sampled_from(["none", "bias", "relu6", "residual", "hard_swish"])),
    )  # fmt: skip


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_random_convolutions(case: ConvCase) -> None:
    check_case(first_match(case, AVX2), case, AVX2, run=runs_here(AVX2))


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(cases(), st.sampled_from([SSE, AVX2, AVX512]))
def test_many_random_convolutions(case: ConvCase, target: Target) -> None:
    check_case(first_match(case, target), case, target, run=runs_here(target))
