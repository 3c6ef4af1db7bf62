"""The presets: consistent data, and serialization."""

from __future__ import annotations

import dataclasses
import itertools
import re

import pytest

from edgeir.errors import EdgeIRError
from edgeir.targets import ALIASES, PRESETS, Target, host, lookup
from edgeir.targets.features import FEATURES, X86_LEVELS, reported_names, simd_shape


@pytest.mark.parametrize("target", PRESETS.values(), ids=PRESETS)
def test_registers_follow_from_the_features(target: Target) -> None:
    architecture = target.architecture
    llvm = [feature[1:] for feature in target.features if feature.startswith("+")]
    reported = set(target.required) if architecture != "wasm32" else set(llvm)
    simd = simd_shape(architecture, reported)
    assert (target.vector_bits, target.vector_registers, target.fma) == (
        simd.vector_bits,
        simd.vector_registers,
        simd.fma,
    )
    assert set(reported_names(architecture, llvm)) <= set(target.required)
    known = {name for names in FEATURES[architecture].values() for name in names}
    assert set(target.required) <= known
    assert 0 < target.l1_bytes <= target.l2_bytes
    assert target.cores >= 1 and target.fma_latency >= 1 and target.fma_per_cycle >= 1


def test_names_and_aliases() -> None:
    assert all(name == target.name for name, target in PRESETS.items())
    assert set(ALIASES.values()) <= set(PRESETS)
    assert not set(ALIASES) & set(PRESETS)


def test_levels_include_the_lower_ones() -> None:
    levels = [set(features) for features in X86_LEVELS.values()]
    assert all(lower < higher for lower, higher in itertools.pairwise(levels))
    assert {"avx2", "fma", "f16c", "bmi2"} <= set(PRESETS["x86-64-v3"].required)


def test_lanes() -> None:
    assert [PRESETS[name].lanes() for name in ("x86-64-v2", "x86-64-v3", "x86-64-v4")] == [4, 8, 16]
    assert PRESETS["x86-64-v4"].lanes(8) == 64
    assert Target("scalar", "riscv64-linux-gnu", vector_bits=0).lanes() == 1


@pytest.mark.parametrize("target", [*PRESETS.values(), host(), lookup("x86_64-linux-gnu+avx2")], ids=lambda t: t.name)
def test_dictionary_reads_back_equal(target: Target) -> None:
    data = target.to_dict()
    assert Target.from_dict(data) == target
    assert not any(isinstance(value, tuple) for value in data.values())


@pytest.mark.parametrize("key", [field.name for field in dataclasses.fields(Target)])
def test_dictionary_with_a_wrong_or_missing_value(key: str) -> None:
    data = PRESETS["cortex-a53"].to_dict()
    for wrong in (None, {}, [1], 1.5, "yes" if not isinstance(data[key], str) else 3):
        if key == "gpu" and wrong is None:
            continue  # a machine without one
        with pytest.raises(EdgeIRError, match=f"where: {key}"):
            Target.from_dict({**data, key: wrong})
    del data[key]
    with pytest.raises(EdgeIRError, match=f"missing \\['{key}'\\]"):
        Target.from_dict(data)


def test_dictionary_of_another_kind() -> None:
    with pytest.raises(EdgeIRError, match="mapping"):
        Target.from_dict(["cortex-a53"])
    with pytest.raises(EdgeIRError, match="unknown \\['speed'\\]"):
        Target.from_dict({**PRESETS["cortex-a53"].to_dict(), "speed": 1})
    with pytest.raises(EdgeIRError, match="where: cores"):
        Target.from_dict({**PRESETS["cortex-a53"].to_dict(), "cores": True})
    with pytest.raises(EdgeIRError, match="where: l1_bytes"):
        Target.from_dict({**PRESETS["cortex-a53"].to_dict(), "l1_bytes": -1})


def test_cores() -> None:
    assert PRESETS["cortex-a53"].with_cores(2).tvm_config()["num-cores"] == 2
    with pytest.raises(EdgeIRError, match="core"):
        PRESETS["cortex-a53"].with_cores(0)


FUSED_MULTIPLY_ADD = {
    "x86-64-v3": r"vfmadd\w+\s.*ymm",
    "x86-64-v4": r"vfmadd\w+\s.*zmm",
    "x86-64-v4-vnni": r"vfmadd\w+\s.*zmm",
    "cortex-a53": r"fmla\s+v\d+\.4s",
    "cortex-a76": r"fmla\s+v\d+\.4s",
    "armv7-neon": r"vfma\.f32\s+q",
    "riscv64-v": r"vfmacc\.v",
}


@pytest.mark.parametrize(("name", "pattern"), FUSED_MULTIPLY_ADD.items())
def test_code_fills_the_registers(name: str, pattern: str) -> None:
    """An explicit vector of `lanes()` floats becomes one FMA on one register."""
    import tvm
    from tvm import s_tir, te

    target = PRESETS[name]
    a, b, c = (te.placeholder((64,), "float32", name=letter) for letter in "abc")
    total = te.compute((64,), lambda i: a[i] * b[i] + c[i], name="total")
    function = te.create_prim_func([a, b, c, total])  # pyright: ignore[reportArgumentType]
    schedule = s_tir.Schedule(function)
    (loop,) = schedule.get_loops(schedule.get_sblock("total"))
    schedule.vectorize(schedule.split(loop, [None, target.lanes()])[1])
    assembly = tvm.compile(schedule.mod, tvm.target.Target(target.tvm_config())).mod.inspect_source("asm")
    assert re.search(pattern, assembly)
