"""From text to a target: `host`, a preset, a board, or an LLVM triple, each with `+feature` appended at will."""

from __future__ import annotations

import difflib
import re
from dataclasses import replace

from edgeir.errors import EdgeIRError
from edgeir.targets.features import FEATURES, WIDE_VECTORS, reported_names, simd_shape
from edgeir.targets.gpus import NO_GENERATOR
from edgeir.targets.host import host
from edgeir.targets.presets import ALIASES, PRESETS
from edgeir.targets.target import Target, architecture_of

_TRIPLE = re.compile(r"[a-z0-9_]+(-[a-z0-9_.]+){1,3}")
_SYSTEMS = ("linux", "darwin", "macos", "windows", "freebsd", "android", "unknown", "none", "wasi", "emscripten")
# LLVM features without which a bare triple's floats would not even be in registers that kernels can use.
_GIVEN = {"aarch64": ("neon",), "riscv64": ("m", "a", "f", "d", "c"), "x86_64": ("sse2",)}


def preset_names() -> tuple[str, ...]:
    """Every name that `lookup` knows beside triples: `host`, the presets, and the boards."""
    return ("host", *PRESETS, *ALIASES)


def lookup(text: str) -> Target:
    """The target that a text names.

    Args:
        text: `host`, a preset (`x86-64-v3`), a board (`raspberry-pi-4`) or an LLVM triple
            (`aarch64-linux-gnu`), followed by any number of `+feature` in LLVM's names
            (`aarch64-linux-gnu+neon+dotprod`, `x86-64-v3+avxvnni`). Width and number of the SIMD registers
            follow from the features.

    Raises:
        EdgeIRError: the name or a feature is unknown; the message has the nearest known ones.
    """
    if not isinstance(text, str) or not text.strip():
        raise EdgeIRError("A target is named by a text.", expected=_expected(), got=repr(text))
    base, *features = (part.strip() for part in text.strip().lower().split("+"))
    target = _base(base, text)
    return _with_features(target, features, text) if features else target


def _base(name: str, text: str) -> Target:
    if name == "host":
        return host()
    name_or_alias = ALIASES.get(name, name)
    if name_or_alias in PRESETS:
        return replace(PRESETS[name_or_alias], name=name)
    if name in NO_GENERATOR:
        raise EdgeIRError(
            f"{name} code cannot be generated: {NO_GENERATOR[name]}.",
            hint="opencl, metal and webgpu are offered as source, CUDA as machine code",
        )
    architecture = architecture_of(name)
    if architecture in FEATURES and _TRIPLE.fullmatch(name) and _names_a_system(name):
        return _bare(name, architecture)
    near = difflib.get_close_matches(name, [*preset_names(), *FEATURES], n=3, cutoff=0.5)
    raise EdgeIRError(
        f"There is no target named {name!r}.",
        where=f"target {text!r}" if text != name else None,
        expected=_expected(),
        got=repr(text),
        hint=f"did you mean {' or '.join(near)}?" if near else None,
    )


def _names_a_system(triple: str) -> bool:
    return any(part.startswith(_SYSTEMS) for part in triple.split("-")[1:])


def _bare(triple: str, architecture: str) -> Target:
    given = _GIVEN.get(architecture, ())
    required = reported_names(architecture, given)
    simd = simd_shape(architecture, required)
    return Target(
        name=triple,
        triple=triple,
        cpu={"aarch64": "generic", "riscv64": "generic-rv64"}.get(architecture, ""),
        features=tuple(f"+{feature}" for feature in given) if architecture == "riscv64" else (),
        required=required,
        vector_bits=simd.vector_bits,
        vector_registers=simd.vector_registers,
        fma=simd.fma,
        l2_bytes=256 * 1024,
    )


def _with_features(target: Target, features: list[str], text: str) -> Target:
    known = FEATURES.get(target.architecture, {})
    for feature in features:
        if feature not in known:
            near = difflib.get_close_matches(feature, known, n=3, cutoff=0.5)
            raise EdgeIRError(
                f"{target.architecture} has no feature named {feature!r}.",
                where=f"target {text!r}",
                expected=f"one of {', '.join(known)}",
                got=repr(feature),
                hint=f"did you mean {' or '.join(near)}?" if near else None,
            )
    added = tuple(f"+{feature}" for feature in dict.fromkeys(features) if f"+{feature}" not in target.features)
    required = tuple(dict.fromkeys((*target.required, *reported_names(target.architecture, features))))
    # No operating system reports wasm's features, so there LLVM's own names decide.
    reported = required or tuple(name.removeprefix("+") for name in (*target.features, *added))
    simd = simd_shape(target.architecture, reported)
    if simd.vector_bits == 512 and target.architecture == "x86_64" and WIDE_VECTORS not in target.features:
        added = (WIDE_VECTORS, *added)
    # Every x86 core since 2013 that has FMA has two ports for it.
    two_ports = target.architecture == "x86_64" and simd.fma
    return replace(
        target,
        name="+".join((target.name, *dict.fromkeys(features))),
        features=target.features + added,
        required=required,
        vector_bits=simd.vector_bits,
        vector_registers=simd.vector_registers,
        fma=simd.fma,
        fma_per_cycle=2 if two_ports else target.fma_per_cycle,
    )


def _expected() -> str:
    return f"one of {', '.join(preset_names())}, or an LLVM triple, with +feature appended at will"
