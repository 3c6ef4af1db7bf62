"""Finding out the machine, on the machine itself and on the reports of others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeir.targets import cpu_features, host, host_cores
from edgeir.targets.features import X86_LEVELS
from edgeir.targets.host import cache_bytes, host_from, parse_cpuinfo

LINUX = "x86_64-linux-gnu"
CACHES = {1: 48 * 1024, 2: 2 * 1024 * 1024}


def test_this_machine() -> None:
    target = host()
    assert set(target.required) <= cpu_features()
    assert target.cores == host_cores()
    assert 1 <= target.cores <= (os.cpu_count() or 1)
    assert target.name == "host" and target.l1_bytes >= 8 * 1024


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity masks")
def test_cores_follow_the_affinity_of_the_process() -> None:
    script = (
        "import os\n"
        "cores = os.sched_getaffinity(0)\n"
        "{}os.sched_setaffinity(0, [min(cores)])\n"
        "from edgeir.targets import host_cores\n"
        "os.sched_setaffinity(0, [min(cores)])\n"
        "print(host_cores(), len(cores))\n"
    )
    for prefix, index in (("", None), ("# ", 1)):
        command = [sys.executable, "-c", script.format(prefix)]
        out = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
        assert int(out[0]) == (1 if index is None else int(out[index]))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/cpuinfo")
def test_no_wider_registers_than_the_cpu_has() -> None:
    flags = Path("/proc/cpuinfo").read_text()
    if "avx512f" not in flags:
        assert host().vector_bits <= 256
    if "avx2" not in flags and "asimd" not in flags:
        assert host().vector_bits <= 128 or "avx" in flags


@pytest.mark.parametrize(
    ("more", "unit"),
    [(("sse4a",), 256), (("sse4a", "avx512_vp2intersect"), 0), ((), 0)],
    ids=["zen 4", "zen 5", "other"],
)
def test_units_that_split_512_bits(more: tuple[str, ...], unit: int) -> None:
    features = frozenset({*X86_LEVELS["x86-64-v4"], *more})
    assert host_from("x86_64", features, CACHES, 2, LINUX).unit_bits == unit
    assert host_from("x86_64", frozenset({*X86_LEVELS["x86-64-v3"], *more}), CACHES, 2, LINUX).unit_bits == 0


def test_x86_levels() -> None:
    for level, features in X86_LEVELS.items():
        target = host_from("x86_64", frozenset(features), CACHES, 2, LINUX)
        assert target.cpu == level
        assert target.required == tuple(sorted(features))
        assert [feature for feature in target.features if feature.startswith("+")] == []
        assert (target.l1_bytes, target.l2_bytes, target.l3_bytes) == (48 * 1024, 2 * 1024 * 1024, 0)


def test_x86_features_beyond_a_level() -> None:
    v3 = frozenset(X86_LEVELS["x86-64-v3"])
    assert host_from("x86_64", v3 | {"avx_vnni", "unheard_of"}, {}, 2, LINUX).features == ("+avxvnni",)
    # One feature short of a level is the level below, with what remains as features.
    target = host_from("x86_64", v3 - {"movbe"}, {}, 2, LINUX)
    assert target.cpu == "x86-64-v2" and {"+avx2", "+fma", "+f16c"} <= set(target.features)
    assert target.vector_bits == 256 and target.fma and "movbe" not in target.required
    v4 = frozenset(X86_LEVELS["x86-64-v4"])
    target = host_from("x86_64", v4 | {"avx512_vnni", "avx512_bf16"}, {}, 2, LINUX)
    assert target.features == ("-prefer-256-bit", "+avx512vnni", "+avx512bf16")
    assert (target.vector_bits, target.vector_registers) == (512, 32)
    # AVX-512F alone, as on Xeon Phi.
    target = host_from("x86_64", v3 | {"avx512f", "avx512cd"}, {}, 2, LINUX)
    assert target.cpu == "x86-64-v3" and "+avx512f" in target.features


def test_old_x86() -> None:
    target = host_from("x86_64", frozenset({"sse2", "pni"}), {}, 1, LINUX)
    assert (target.cpu, target.vector_bits, target.fma) == ("", 128, False)
    assert target.features == ("+sse3",) and target.required == ("pni",)


def test_aarch64_leaves_scalable_vectors_alone() -> None:
    reported = frozenset({"fp", "asimd", "asimddp", "asimdhp", "fphp", "sve", "sve2"})
    target = host_from("aarch64", reported, {}, 4, "aarch64-linux-gnu")
    assert target.cpu == "generic" and set(target.features) == {"+neon", "+dotprod", "+fullfp16"}
    assert set(target.required) == {"asimd", "asimddp", "asimdhp", "fphp"}
    # fphp alone is not enough for LLVM's fullfp16.
    assert "+fullfp16" not in host_from("aarch64", frozenset({"asimd", "fphp"}), {}, 4, "aarch64-linux-gnu").features


def test_cpuinfo_of_unlike_cores_is_what_all_have() -> None:
    text = "processor\t: 0\nFeatures\t: fp asimd asimddp\n\nprocessor\t: 1\nFeatures\t: fp asimd\n"
    assert parse_cpuinfo(text) == {"fp", "asimd"}
    assert parse_cpuinfo("flags\t\t: fpu AVX2\nvmx flags\t: vnmi\nbugs\t\t: spectre\n") == {"fpu", "avx2"}
    assert parse_cpuinfo("isa\t: rv64imafdcv_zba_zbb\n") == {*"imafdcv", "zba", "zbb"}
    assert parse_cpuinfo("isa\t: rv64gc\n") >= set("imafdc")
    assert parse_cpuinfo("") == frozenset()


def test_caches(tmp_path: Path) -> None:
    siblings = tmp_path / "siblings"
    siblings.write_text("0,4\n")
    rows = [("1", "Data", "32K", "0,4"), ("1", "Instruction", "64K", "0,4"), ("2", "Unified", "1024K", "0-1,4-5")]
    for index, row in enumerate([*rows, ("3", "Unified", "8M", "0-7"), ("x", "Unified", "?", "")]):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, value in zip(("level", "type", "size", "shared_cpu_list"), row, strict=True):
            (folder / name).write_text(value + "\n")
    if sys.platform.startswith("linux"):
        # Two cores of two threads each share the second level.
        assert cache_bytes(tmp_path, siblings) == {1: 32 * 1024, 2: 512 * 1024, 3: 8 * 1024 * 1024}
        assert cache_bytes(tmp_path / "absent", siblings) == {}
