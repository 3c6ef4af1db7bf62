"""From text to target."""

from __future__ import annotations

import pytest

from edgeir.errors import EdgeIRError
from edgeir.targets import PRESETS, architecture_of, host, lookup, preset_names


@pytest.mark.parametrize("name", preset_names())
def test_every_listed_name_is_found(name: str) -> None:
    assert lookup(name).name == name


def test_names() -> None:
    assert lookup("host") == host()
    assert lookup(" X86-64-V3 ") == PRESETS["x86-64-v3"]
    assert lookup("raspberry-pi-4").cpu == "cortex-a72"


def test_triple_with_features() -> None:
    arm = lookup("aarch64-linux-gnu+neon+dotprod")
    assert (arm.triple, arm.cpu, arm.vector_bits, arm.vector_registers, arm.fma) == (
        "aarch64-linux-gnu",
        "generic",
        128,
        32,
        True,
    )
    assert arm.features == ("+neon", "+dotprod") and set(arm.required) == {"asimd", "asimddp"}
    avx2 = lookup("x86_64-linux-gnu+avx2+fma")
    assert (avx2.vector_bits, avx2.vector_registers, avx2.fma, avx2.cpu) == (256, 16, True, "")
    assert set(avx2.required) == {"sse2", "avx2", "fma"} and avx2.has("avx2") and not avx2.has("avx512f")
    assert not lookup("x86_64-linux-gnu+avx2").fma
    wide = lookup("x86_64-unknown-linux-gnu+avx512f")
    assert (wide.vector_bits, wide.vector_registers) == (512, 32) and "-prefer-256-bit" in wide.features
    assert lookup("x86_64-linux-gnu").vector_bits == 128
    assert lookup("riscv64-linux-gnu").vector_bits == 0
    assert lookup("riscv64-linux-gnu+v+zvl256b").vector_bits == 256
    assert lookup("armv7a-linux-gnueabihf").vector_bits == 0
    assert lookup("armv7a-linux-gnueabihf+neon+vfp4").fma
    assert lookup("arm64-apple-darwin23").architecture == "aarch64"


def test_preset_with_features() -> None:
    target = lookup("x86-64-v3+avxvnni+avxvnni")
    assert target.name == "x86-64-v3+avxvnni" and target.features == ("+avxvnni",)
    assert target.required == (*PRESETS["x86-64-v3"].required, "avx_vnni")
    assert target.fma_latency == PRESETS["x86-64-v3"].fma_latency
    # A name with features is itself a text that gives the same target.
    assert lookup(target.name) == target


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("cortex-a73", "cortex-a72"),
        ("x86-64-v33", "x86-64-v3"),
        ("raspbery-pi-4", "raspberry-pi-4"),
        ("hosts", "host"),
        ("x86_64-linux-gnu+avx3", "avx2"),
        ("aarch64-linux-gnu+dotprd", "dotprod"),
        ("cortex-a72+avx2", "neon"),
        ("x86-64-v3+", "avx2"),
        ("haswell", "x86-64-v3"),
        ("x86_64", "x86-64-v3"),
        ("x86_64-foo", "x86-64-v3"),
        ("mips-linux-gnu", "triple"),
        ("", "host"),
        ("+avx2", "host"),
    ],
)
def test_unknown_names_say_what_is_known(text: str, hint: str) -> None:
    with pytest.raises(EdgeIRError, match=hint):
        lookup(text)


def test_not_a_text() -> None:
    with pytest.raises(EdgeIRError, match="named by a text"):
        lookup(3)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("triple", "architecture"),
    [
        ("AMD64", "x86_64"),
        ("arm64-apple-darwin23", "aarch64"),
        ("armv7l", "arm"),
        ("armv7a-linux-gnueabihf", "arm"),
        ("i686-linux-gnu", "i386"),
        ("wasm32-unknown-unknown", "wasm32"),
    ],
)
def test_architecture_spellings(triple: str, architecture: str) -> None:
    assert architecture_of(triple) == architecture
