"""The manifest: text and back, and every way in which it can be wrong."""

from __future__ import annotations

import json

import pytest

from edgeir.errors import ArtifactError
from edgeir.runtime import Manifest, TensorSpec
from edgeir.runtime.manifest import _hash, _text, parse_manifest
from edgeir.targets import lookup


def sample() -> Manifest:
    return Manifest(
        name="net π",
        inputs=(TensorSpec("x", "float32", (1, 3, 8, 8)), TensorSpec("mask", "bool", ())),
        outputs=(TensorSpec("y", "bfloat16", (0, 4)),),
        target=lookup("cortex-a72"),
        threads=4,
        required_features=("asimd",),
        versions={"edgeir": "0.1.0", "llvm": "22"},
        passes="canonicalize,fuse{depth=2}",
        macs=10**12,
    )


def signed(**changes: object) -> str:
    """A manifest's text with values replaced and a hash that fits them."""
    data = {**sample().to_dict(), **changes}
    data = {key: value for key, value in data.items() if value is not ...}
    return _text({**data, "hash": _hash(data)})


def test_text_reads_back_equal() -> None:
    assert parse_manifest(sample().to_text()) == sample()


def test_every_changed_byte_is_noticed() -> None:
    text = sample().to_text()
    for position in range(len(text)):
        for replacement in ("7", " "):
            changed = text[:position] + replacement + text[position + 1 :]
            if changed != text:
                with pytest.raises(ArtifactError):
                    parse_manifest(changed)


def test_every_truncation_is_noticed() -> None:
    text = sample().to_text()
    for length in range(len(text)):
        with pytest.raises(ArtifactError):
            parse_manifest(text[:length])


def test_appended_space_is_noticed() -> None:
    with pytest.raises(ArtifactError, match="changed after it was written"):
        parse_manifest(sample().to_text() + "\n")


@pytest.mark.parametrize("text", ["[]", "{}", "null", "1", '"edgeir-artifact"', '{"format": "other"}'])
def test_foreign_json(text: str) -> None:
    with pytest.raises(ArtifactError, match="not the manifest of an EdgeIR artifact"):
        parse_manifest(text)


def test_deep_nesting_is_an_error_not_a_crash() -> None:
    with pytest.raises(ArtifactError, match="not JSON"):
        parse_manifest("[" * 200_000)


@pytest.mark.parametrize("version", [0, 2, "1", None, True])
def test_unknown_format_version(version: object) -> None:
    with pytest.raises(ArtifactError, match="format version"):
        parse_manifest(signed(format_version=version))


@pytest.mark.parametrize("key", sorted(set(sample().to_dict()) - {"format", "format_version"}))
def test_missing_key(key: str) -> None:
    with pytest.raises(ArtifactError, match=f"missing \\['{key}'\\]"):
        parse_manifest(signed(**{key: ...}))


def test_unknown_key() -> None:
    with pytest.raises(ArtifactError, match="unknown \\['extra'\\]"):
        parse_manifest(signed(extra=1))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", 3),
        ("threads", 0),
        ("threads", True),
        ("threads", "4"),
        ("macs", -1),
        ("macs", 1.5),
        ("library_sha256", "00"),
        ("golden_sha256", None),
        ("required_features", "asimd"),
        ("required_features", [1]),
        ("versions", {"tvm": 1}),
        ("versions", []),
        ("inputs", {}),
        ("inputs", [{"name": "x", "dtype": "float32"}]),
        ("inputs", [{"name": "", "dtype": "float32", "shape": []}]),
        ("inputs", [{"name": "x", "dtype": "string", "shape": []}]),
        ("inputs", [{"name": "x", "dtype": ["float32"], "shape": []}]),
        ("inputs", [{"name": "x", "dtype": "float32", "shape": [-1]}]),
        ("inputs", [{"name": "x", "dtype": "float32", "shape": ["N"]}]),
        ("outputs", [{"name": "y", "dtype": "float32", "shape": []}] * 2),
    ],
)
def test_malformed_value_names_the_key(key: str, value: object) -> None:
    with pytest.raises(ArtifactError, match=f"where: manifest.json, {key}"):
        parse_manifest(signed(**{key: value}))


def test_malformed_target() -> None:
    target = {**sample().target.to_dict(), "cores": "four"}
    with pytest.raises(ArtifactError, match="where: cores"):
        parse_manifest(signed(target=target))


def test_text_is_ascii_with_sorted_keys() -> None:
    text = sample().to_text()
    assert text.isascii()
    assert list(json.loads(text)) == sorted(json.loads(text))
