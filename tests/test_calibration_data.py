"""Samples from arrays, files, folders, pictures and iterators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeir.calibration_data import ImageOptions, samples_from
from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Value


def inputs(*types: str) -> tuple[Value, ...]:
    b = Builder("inputs")
    values = [b.input(f"in{index}", type) for index, type in enumerate(types)]
    return b.outputs(y=values[0]).inputs


def test_arrays_are_cut_along_the_leading_axis() -> None:
    values = inputs("float32[2, 3]", "int64[2]")
    x, n = np.arange(18, dtype=np.float32).reshape(6, 3), np.arange(6)
    found = samples_from({"in0": x, "in1": n}, values)
    assert len(found) == 3
    np.testing.assert_array_equal(found[2]["in0"], x[4:])
    np.testing.assert_array_equal(found[2]["in1"], n[4:])
    assert len(samples_from({"in0": x, "in1": n}, values, limit=2)) == 2


def test_an_axis_of_samples_before_the_batch() -> None:
    found = samples_from(np.zeros((4, 2, 3), np.float32), inputs("float32[2, 3]"))
    assert len(found) == 4 and found[0]["in0"].shape == (2, 3)


def test_a_symbolic_batch_is_one() -> None:
    found = samples_from(np.zeros((4, 3), np.float32), inputs("float32[N, 3]"))
    assert len(found) == 4 and found[0]["in0"].shape == (1, 3)


def test_iterators_and_sequences() -> None:
    found = samples_from(({"in0": np.full((1, 2), i, np.float32)} for i in range(3)), inputs("float32[1, 2]"))
    assert [float(sample["in0"][0, 0]) for sample in found] == [0.0, 1.0, 2.0]
    assert [float(sample["in0"][0, 0]) for sample in found[1:]] == [1.0, 2.0]


def test_files_and_folders(tmp_path: Path) -> None:
    values = inputs("float32[1, 2]")
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.save(tmp_path / "a.npy", x[:1])
    np.savez(tmp_path / "b.npz", in0=x[1:])
    for source, first in ((tmp_path / "a.npy", 0.0), (tmp_path / "b.npz", 2.0), (str(tmp_path), 0.0)):
        assert samples_from(source, values)[0]["in0"][0, 0] == first
    np.testing.assert_array_equal(np.concatenate([s["in0"] for s in samples_from(tmp_path, values)]), x)


@pytest.mark.parametrize(
    ("type", "shape"), [("float32[1, 3, 4, 5]", (1, 3, 4, 5)), ("float32[1, 4, 5, 3]", (1, 4, 5, 3))]
)
def test_pictures(tmp_path: Path, type: str, shape: tuple[int, ...]) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (10, 8), (0, 127, 255)).save(tmp_path / "one.png")
    image.new("L", (5, 4), 255).save(tmp_path / "two.png")
    options = ImageOptions((127.0, 127.0, 127.0), (128.0,))
    found = samples_from(tmp_path, inputs(f"float32[{', '.join(map(str, shape))}]"), images=options)
    assert len(found) == 2 and found[0]["in0"].shape == shape
    channels = found[0]["in0"].mean(axis=(0, 2, 3) if shape[1] == 3 else (0, 1, 2))
    np.testing.assert_allclose(channels, [-127 / 128, 0.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(found[1]["in0"], 1.0)


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    values = inputs("float32[2, 3]")
    with pytest.raises(EdgeIRError, match="no such file"):
        samples_from(tmp_path / "missing.npz", values)
    with pytest.raises(EdgeIRError, match="holds no samples"):
        samples_from(tmp_path, values)
    with pytest.raises(EdgeIRError, match="no samples"):
        samples_from([], values)
    with pytest.raises(EdgeIRError, match="no samples"):
        samples_from(np.zeros((0, 2, 3), np.float32), values)
    with pytest.raises(EdgeIRError, match="no array for an input"):
        samples_from({"x": np.zeros((2, 3), np.float32)}, values)
    with pytest.raises(EdgeIRError, match="multiple of 2"):
        samples_from(np.zeros((3, 3), np.float32), values)
    with pytest.raises(EdgeIRError, match="does not fit"):
        samples_from(np.zeros(3, np.float32), values)
    with pytest.raises(EdgeIRError, match="different numbers of samples"):
        two = inputs("float32[1, 3]", "float32[1, 3]")
        samples_from({"in0": np.zeros((2, 3), np.float32), "in1": np.zeros((3, 3), np.float32)}, two)
    with pytest.raises(EdgeIRError, match="another element type"):
        samples_from({"in0": np.zeros((2, 3), np.complex64)}, values)[0]
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04nothing")
    with pytest.raises(EdgeIRError, match="cannot read samples"):
        samples_from(tmp_path / "broken.npz", values)
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(EdgeIRError, match="cannot read samples"):
        samples_from(tmp_path / "objects.npy", values)
    pytest.importorskip("PIL")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.raises(EdgeIRError, match="cannot read a picture"):
        samples_from(tmp_path / "broken.png", inputs("float32[1, 3, 4, 4]"))[0]
    with pytest.raises(EdgeIRError, match="takes no pictures"):
        samples_from(tmp_path / "broken.png", values)[0]
