"""`manifest.json`: what an artifact says of itself."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeir.errors import ArtifactError, EdgeIRError
from edgeir.runtime.dtypes import DTYPES
from edgeir.targets import Target

FORMAT = "edgeir-artifact"
FORMAT_VERSION = 1

_INTEGERS = ("threads", "code_bytes", "constant_bytes", "peak_memory_bytes", "macs")
_STRINGS = ("name", "passes", "created_with")
_BOOLEANS = ("quantized",)
_NAME_LISTS = ("tuned_kernels", "untuned_kernels")
_HASHES = ("library_sha256", "golden_sha256")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a compiled model.

    Attributes:
        name: as in the model it was made from.
        dtype: element type (`float32`, `int8`, `bfloat16`, `bool`, …).
        shape: extents, all fixed; () for a scalar.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Manifest:
    """The contents of `manifest.json`.

    Attributes:
        name: the model's name.
        inputs, outputs: in the order in which the library's `main` takes and returns them.
        target: the machine that the code was made for.
        required_features: CPU features without which the library must not be loaded (OS names).
        threads: default number of threads.
        versions: package → version that took part (`edgeir`, `tvm`, `tvm_ffi`, `llvm`).
        library_sha256, golden_sha256: of `model.so` and `golden.npz`, in hexadecimal.
        passes: the pipeline's text.
        code_bytes: size of `model.so` less its constants.
        constant_bytes: size of the constants inside `model.so`.
        peak_memory_bytes: most activation memory in use at one time, inputs and outputs included.
        macs: multiply-accumulate operations of one run.
        quantized: whether numbers are rounded to few bits on the way, so that results may differ in some last steps.
        created_with: the command or call that made the artifact; may be empty.
        tuned_kernels: names of the kernels for which there were records of measurements.
        untuned_kernels: names of those that could be tuned and had none, so that defaults were used.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    target: Target
    threads: int = 1
    required_features: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    library_sha256: str = "0" * 64
    golden_sha256: str = "0" * 64
    passes: str = ""
    code_bytes: int = 0
    constant_bytes: int = 0
    peak_memory_bytes: int = 0
    macs: int = 0
    quantized: bool = False
    created_with: str = ""
    tuned_kernels: tuple[str, ...] = ()
    untuned_kernels: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The manifest as JSON values, its own hash left out."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            **{key: getattr(self, key) for key in (*_STRINGS, *_INTEGERS, *_BOOLEANS, *_HASHES)},
            "inputs": [_spec_to_dict(spec) for spec in self.inputs],
            "outputs": [_spec_to_dict(spec) for spec in self.outputs],
            "target": self.target.to_dict(),
            "required_features": list(self.required_features),
            **{key: list(getattr(self, key)) for key in _NAME_LISTS},
            "versions": dict(self.versions),
        }

    def to_text(self) -> str:
        """The text of `manifest.json`: keys sorted, two spaces of indentation, a `hash` over everything else."""
        data = self.to_dict()
        return _text({**data, "hash": _hash(data)})

    def with_hashes(self, library_sha256: str, golden_sha256: str) -> Manifest:
        """The same manifest for these two files."""
        return replace(self, library_sha256=library_sha256, golden_sha256=golden_sha256)

    @staticmethod
    def load(path: Path) -> Manifest:
        """Read and check a `manifest.json`.

        Raises:
            ArtifactError: the file is absent, no JSON, of another format or version, lacks a key or has an unknown
                one, has a value of the wrong type, or was changed after it was written.
        """
        try:
            text = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise ArtifactError("The manifest is not UTF-8 text.", where=str(path), hint=_REMAKE) from error
        except OSError as error:
            raise ArtifactError(
                "The artifact's manifest cannot be read.", where=str(path), got=error.strerror, hint=_REMAKE
            ) from error
        return parse_manifest(text, str(path))


_REMAKE = "copy the artifact again, or compile the model again"


def parse_manifest(text: str, where: str = "manifest.json") -> Manifest:
    """The manifest that a text of `manifest.json` holds; see `Manifest.load` for what is checked."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtifactError("The manifest is not JSON.", where=where, got=str(error), hint=_REMAKE) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        got = repr(data.get("format")) if isinstance(data, dict) else type(data).__name__
        raise ArtifactError(
            "This is not the manifest of an EdgeIR artifact.", where=where, expected=f'"format": "{FORMAT}"', got=got
        )
    version = data.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise ArtifactError(
            "The artifact has a format version that this EdgeIR does not read.",
            where=where,
            expected=FORMAT_VERSION,
            got=repr(version),
            hint="use the EdgeIR version that made it, or compile the model again",
        )
    body = {key: value for key, value in data.items() if key != "hash"}
    # Equal text, not only an equal hash: a changed space or a repeated key would vanish in parsing.
    if data.get("hash") != _hash(body) or _text(data) != text:
        raise ArtifactError(
            "The manifest was changed after it was written.",
            where=where,
            expected=f"hash {_hash(body)} and the text as EdgeIR wrote it",
            got=f"hash {data.get('hash')}",
            hint=_REMAKE,
        )
    return _from_dict(body, where)


def _from_dict(data: dict[str, Any], where: str) -> Manifest:
    template = Manifest("", (), (), Target("", "")).to_dict()
    missing, unknown = sorted(set(template) - set(data)), sorted(set(data) - set(template))
    if missing or unknown:
        raise ArtifactError(
            "The manifest has the wrong keys.", where=where, got=f"missing {missing}, unknown {unknown}", hint=_REMAKE
        )
    for key in _STRINGS:
        _require(isinstance(data[key], str), where, key, "a string", data[key])
    for key in _INTEGERS:
        low = 1 if key == "threads" else 0
        _require(type(data[key]) is int and data[key] >= low, where, key, f"an integer ≥ {low}", data[key])
    for key in _BOOLEANS:
        _require(isinstance(data[key], bool), where, key, "true or false", data[key])
    for key in _HASHES:
        good = isinstance(data[key], str) and _SHA256.fullmatch(data[key]) is not None
        _require(good, where, key, "64 hexadecimal digits", data[key])
    features, versions = data["required_features"], data["versions"]
    for key in ("required_features", *_NAME_LISTS):
        good = isinstance(data[key], list) and all(isinstance(name, str) for name in data[key])
        _require(good, where, key, "a list of strings", data[key])
    good = isinstance(versions, dict) and all(isinstance(value, str) for value in versions.values())
    _require(good, where, "versions", "strings by package", versions)
    try:
        target = Target.from_dict(data["target"])
    except EdgeIRError as error:
        raise ArtifactError("The manifest's target is malformed.", where=where, details=str(error)) from error
    return Manifest(
        inputs=_specs(data["inputs"], where, "inputs"),
        outputs=_specs(data["outputs"], where, "outputs"),
        target=target,
        required_features=tuple(features),
        versions=dict(versions),
        **{key: tuple(data[key]) for key in _NAME_LISTS},
        **{key: data[key] for key in (*_STRINGS, *_INTEGERS, *_BOOLEANS, *_HASHES)},
    )


def _specs(value: object, where: str, key: str) -> tuple[TensorSpec, ...]:
    _require(isinstance(value, list), where, key, "a list", value)
    assert isinstance(value, list)
    specs = tuple(_spec(item, where, f"{key}[{index}]") for index, item in enumerate(value))
    names = [spec.name for spec in specs]
    _require(len(set(names)) == len(names), where, key, "different names", names)
    return specs


def _spec(value: object, where: str, key: str) -> TensorSpec:
    good = isinstance(value, dict) and set(value) == {"name", "dtype", "shape"}
    _require(good, where, key, "the keys name, dtype and shape", value)
    assert isinstance(value, dict)
    name, dtype, shape = value["name"], value["dtype"], value["shape"]
    _require(isinstance(name, str) and name != "", where, f"{key}.name", "a string that is not empty", name)
    _require(isinstance(dtype, str) and dtype in DTYPES, where, f"{key}.dtype", f"one of {', '.join(DTYPES)}", dtype)
    good = isinstance(shape, list) and all(type(extent) is int and extent >= 0 for extent in shape)
    _require(good, where, f"{key}.shape", "a list of integers ≥ 0", shape)
    return TensorSpec(name, dtype, tuple(shape))


def _spec_to_dict(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}


def _require(good: bool, where: str, key: str, expected: str, got: object) -> None:
    if not good:
        raise ArtifactError(
            "A value of the manifest is malformed.", where=f"{where}, {key}", expected=expected, got=repr(got)
        )


def _hash(data: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def _text(data: dict[str, Any]) -> str:
    return json.dumps(data, sort_keys=True, indent=2) + "\n"
