"""The machine that this process runs on, found out from the CPU and the operating system."""

from __future__ import annotations

import functools
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from edgeir.errors import EdgeIRError
from edgeir.targets.features import FEATURES, WIDE_VECTORS, X86_LEVELS, simd_shape
from edgeir.targets.target import Target, architecture_of

_PROC_CPUINFO = Path("/proc/cpuinfo")
_CPU0_CACHE = Path("/sys/devices/system/cpu/cpu0/cache")
_CPU0_SIBLINGS = Path("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")

# macOS spells some features differently from Linux.
_MACOS_TO_LINUX = {
    "sse3": "pni",
    "sse4.1": "sse4_1",
    "sse4.2": "sse4_2",
    "avx1.0": "avx",
    "lzcnt": "abm",
    "lahf": "lahf_lm",
    "advsimd": "asimd",
    "feat_dotprod": "asimddp",
    "feat_fp16": "asimdhp",
    "feat_i8mm": "i8mm",
    "feat_bf16": "bf16",
    "feat_rdm": "asimdrdm",
    "feat_lse": "atomics",
    "feat_crc32": "crc32",
    "feat_fhm": "asimdfhm",
    "avx512vnni": "avx512_vnni",
}


def host_architecture() -> str:
    """The architecture of this process (`x86_64`, `aarch64`, `arm`, …).

    A 32-bit process on a 64-bit kernel counts as 32-bit, because it loads 32-bit libraries.
    """
    architecture = architecture_of(platform.machine())
    if sys.maxsize < 2**32:
        return {"x86_64": "i386", "aarch64": "arm", "riscv64": "riscv32"}.get(architecture, architecture)
    return architecture


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


# Asked once, on import: TVM's thread pool may later bind the calling thread, and its mask then tells of that alone.
_CORES = _usable_cores()


def host_cores() -> int:
    """Number of logical cores that this process may run on (its affinity mask on import, where there is one)."""
    return _CORES


@functools.cache
def cpu_features() -> frozenset[str]:
    """The features that the CPU and the operating system offer, in Linux's names, lower case.

    On a machine with unlike cores, what all of them have.

    Raises:
        EdgeIRError: the operating system has no known way to tell.
    """
    if sys.platform.startswith("linux"):
        found = parse_cpuinfo(_PROC_CPUINFO.read_text(encoding="utf-8", errors="replace"))
        if host_architecture() == "arm" and "asimd" in found:
            # A 64-bit kernel speaks of its own mode; 32-bit code finds the same units under the older names.
            found |= {"neon", "vfpv3", "vfpv4"}
        return found
    if sys.platform == "darwin":
        return _macos_features()
    raise EdgeIRError(
        "The CPU's features cannot be read on this operating system.", expected="Linux or macOS", got=sys.platform
    )


def parse_cpuinfo(text: str) -> frozenset[str]:
    """The features common to all processors in the text of `/proc/cpuinfo`."""
    common: frozenset[str] | None = None
    for key, value in re.findall(r"^(flags|Features|isa)\s*:\s*(.*)$", text, flags=re.MULTILINE):
        names = _riscv_extensions(value) if key == "isa" else frozenset(value.lower().split())
        common = names if common is None else common & names
    return common or frozenset()


def _riscv_extensions(isa: str) -> frozenset[str]:
    """`rv64imafdc_zba_zbb` → its single letters and its longer extensions; `g` stands for `imafd`."""
    letters, *longer = isa.lower().split("_")
    single = set(re.sub(r"^rv(32|64|128)", "", letters))
    if "g" in single:
        single |= set("imafd")
    return frozenset(single | set(longer))


def _sysctl(*names: str) -> dict[str, str]:
    """Values of macOS's `sysctl`; a name that this machine lacks is absent."""
    answer = subprocess.run(["/usr/sbin/sysctl", *names], capture_output=True, text=True, check=False, timeout=10)
    pairs = (line.split(":", 1) for line in answer.stdout.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _macos_features() -> frozenset[str]:
    values = _sysctl("machdep.cpu.features", "machdep.cpu.leaf7_features", "machdep.cpu.extfeatures", "hw.optional")
    found: set[str] = set()
    for key, value in values.items():
        if key.startswith("machdep."):
            found.update(value.lower().split())
        elif value == "1":
            found.add(key.rsplit("hw.optional.", 1)[-1].removeprefix("arm.").lower())
    names = {_MACOS_TO_LINUX.get(name, name) for name in found}
    if "asimdhp" in names:
        names.add("fphp")
    return frozenset(names)


def _bytes(text: str) -> int:
    """`32K` → 32768; 0 if the text is no size."""
    match = re.fullmatch(r"(\d+)([KMG]?)", text.strip())
    return int(match[1]) * {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}[match[2]] if match else 0


def _count(cpu_list: str) -> int:
    """Number of processors in a kernel list such as `0-3,8`; at least 1."""
    total = 0
    for part in cpu_list.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            total += int(last or first) - int(first) + 1
    return max(1, total)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def cache_bytes(folder: Path = _CPU0_CACHE, siblings: Path = _CPU0_SIBLINGS) -> dict[int, int]:
    """Cache level → bytes of data cache for one core, where the operating system tells.

    Levels 1 and 2 that several cores share count with one core's share (hyper-threads are one core); level 3 whole.
    """
    if sys.platform == "darwin":
        sizes = _sysctl("hw.perflevel0.l1dcachesize", "hw.l1dcachesize", "hw.l2cachesize", "hw.l3cachesize")
        l1 = sizes.get("hw.perflevel0.l1dcachesize") or sizes.get("hw.l1dcachesize", "")
        found = {1: _bytes(l1), 2: _bytes(sizes.get("hw.l2cachesize", "")), 3: _bytes(sizes.get("hw.l3cachesize", ""))}
        return {level: size for level, size in found.items() if size}
    threads_per_core = _count(_read(siblings))
    found = {}
    for index in sorted(folder.glob("index[0-9]*")):
        level, size = _read(index / "level"), _bytes(_read(index / "size"))
        if _read(index / "type") not in ("Data", "Unified") or not level.isdigit() or not size:
            continue
        sharers = max(1, _count(_read(index / "shared_cpu_list")) // threads_per_core)
        found[int(level)] = size if int(level) >= 3 else size // sharers
    return found


def host() -> Target:
    """This machine as a target: the highest x86-64 level (or the generic CPU) plus every known feature beyond it.

    Nothing is taken from the CPU's model name: virtual machines and new models would make it a guess.

    Raises:
        EdgeIRError: the operating system has no known way to tell the CPU's features.
    """
    architecture = host_architecture()
    return host_from(architecture, cpu_features(), cache_bytes(), host_cores(), _host_triple(architecture))


def host_from(architecture: str, reported: frozenset[str], caches: dict[int, int], cores: int, triple: str) -> Target:
    """The target of a machine that reports these features (OS names), caches (level → bytes) and cores."""
    level, implied = "", ()
    if architecture == "x86_64":
        for name, needs in X86_LEVELS.items():
            if reported.issuperset(needs):
                level, implied = name, needs
    beyond = {
        feature: names
        for feature, names in FEATURES.get(architecture, {}).items()
        if names and reported.issuperset(names) and not set(names) <= set(implied) and feature != "sse2"
    }
    # Scalable vectors need code written for them; LLVM would only be free to use them where nobody asked.
    beyond = {feature: names for feature, names in beyond.items() if feature not in ("sve", "sve2")}
    simd = simd_shape(architecture, reported)
    prefer_wide = (WIDE_VECTORS,) if level == "x86-64-v4" else ()
    wide = architecture == "x86_64" and simd.fma
    return Target(
        name="host",
        triple=triple,
        cpu=level or {"aarch64": "generic", "riscv64": "generic-rv64"}.get(architecture, ""),
        features=(*prefer_wide, *(f"+{feature}" for feature in beyond)),
        required=tuple(sorted({*implied, *(name for names in beyond.values() for name in names)})),
        vector_bits=simd.vector_bits,
        vector_registers=simd.vector_registers,
        unit_bits=256 if simd.vector_bits == 512 and _splits_vectors(reported) else 0,
        fma=simd.fma,
        # Two FMA ports and latency 4 hold for the x86 cores with FMA since 2015; small ARM cores have one port.
        fma_per_cycle=2 if wide else 1,
        fma_latency=4,
        l1_bytes=caches.get(1, 32 * 1024),
        l2_bytes=caches.get(2, 256 * 1024),
        l3_bytes=caches.get(3, 0),
        cores=max(1, cores),
    )


def _splits_vectors(reported: frozenset[str]) -> bool:
    """Whether 512-bit vectors are executed in halves: by AMD's cores (`sse4a`) before Zen 5 (`avx512_vp2intersect`)."""
    return "sse4a" in reported and "avx512_vp2intersect" not in reported


def _host_triple(architecture: str) -> str:
    if sys.platform == "darwin":
        return f"{'arm64' if architecture == 'aarch64' else architecture}-apple-darwin{platform.release()}"
    if architecture == "arm":
        return "armv7a-linux-gnueabihf"
    return f"{architecture}-linux-gnu"
