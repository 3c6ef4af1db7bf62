"""The Fashion-MNIST example, on scikit-learn's digits, and its reader of IDX files."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch (extra train)")

from edgeir.compress import compress  # noqa: E402
from edgeir.errors import EdgeIRError  # noqa: E402
from edgeir.ir import Graph, graph_statistics, load_graph  # noqa: E402
from edgeir.ir.evaluate import evaluate  # noqa: E402
from edgeir.runtime import Session, verify  # noqa: E402
from edgeir.training import GraphModule  # noqa: E402
from edgeir.training.recipes import RecipeData, read_recipe  # noqa: E402
from examples.fashion_mnist.data import load_images  # noqa: E402
from examples.fashion_mnist.networks import mobile_network, residual_network  # noqa: E402
from examples.fashion_mnist.recipe import compression_recipe  # noqa: E402


@pytest.mark.slow
def test_digits_from_scratch_to_integers(tmp_path: Path) -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="the digits come with scikit-learn")
    digits = datasets.load_digits()
    images = ((digits.images[:, None] - 4.88) / 6.02).astype(np.float32)
    train, test = slice(0, 1300), slice(1300, None)
    data = RecipeData((images[train], digits.target[train]), (images[test], digits.target[test]))
    recipe = compression_recipe(
        residual_network(8, widths=(16, 32)),
        epochs=(12, 6, 3),
        batch_size=64,
        round_to=8,
        learning_rate=1e-2,
        augment=("shift=1",),
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        report = compress(recipe, data, tmp_path / "work", latency=False)
    finally:
        torch.set_num_threads(threads)
    original, trained, pruned, quantized, _ = report.stages
    accuracy = {stage.name: stage.metrics["accuracy"] for stage in report.stages}
    assert accuracy["float"] > 0.9, accuracy
    assert accuracy["compiled"] > accuracy["float"] - 0.03, accuracy
    assert pruned.macs <= 0.5 * trained.macs == 0.5 * original.macs
    assert quantized.bytes < 0.35 * pruned.bytes

    assert report.artifact is not None
    # Where a sum lies between two integers, kernels and reference may round it to different ones.
    assert verify(report.artifact, tolerance=0.02).passed
    session = Session(report.artifact)
    graph = load_graph(tmp_path / "work" / "03-quantize" / "graph.txt")
    module = GraphModule(graph, trainable=lambda value: False).eval()
    with torch.no_grad():
        expected = module(torch.from_numpy(images[test]))["logits"].numpy()
    got = np.concatenate([session.run({"image": image[None]})["logits"] for image in images[test]])
    assert (got.argmax(1) == expected.argmax(1)).mean() >= 0.998
    assert accuracy["compiled"] == pytest.approx((got.argmax(1) == digits.target[test]).mean())


@pytest.mark.parametrize("build", [mobile_network, residual_network])
def test_networks(build) -> None:
    graph: Graph = build()
    graph.verify()
    images = np.random.default_rng(0).normal(size=(2, 1, 28, 28)).astype(np.float32)
    logits = evaluate(graph, {"image": images})["logits"]
    assert logits.shape == (2, 10) and np.isfinite(logits).all() and np.ptp(logits) > 0
    parameters = graph_statistics(graph.bind({"N": 1})).parameters
    assert 50_000 < parameters < 500_000
    if build is mobile_network:
        assert parameters > 200_000


def _write_images(folder: Path, count: int, compressed: bool) -> np.ndarray:
    images = np.random.default_rng(count).integers(0, 256, (count, 28, 28), np.uint8)
    labels = bytes(index % 10 for index in range(count))
    for part in ("train", "t10k"):
        files = {
            f"{part}-images-idx3-ubyte": b"\0\0\x08\x03" + struct.pack(">3I", count, 28, 28) + images.tobytes(),
            f"{part}-labels-idx1-ubyte": b"\0\0\x08\x01" + struct.pack(">I", count) + labels,
        }
        for name, content in files.items():
            path = folder / (f"{name}.gz" if compressed else name)
            path.write_bytes(gzip.compress(content) if compressed else content)
    return images


@pytest.mark.parametrize("compressed", [False, True])
def test_idx_files_are_read(tmp_path: Path, compressed: bool) -> None:
    images = _write_images(tmp_path, 12, compressed)
    data = load_images(tmp_path)
    pixels, labels = data.test
    assert pixels.shape == (12, 1, 28, 28) and pixels.dtype == np.float32
    np.testing.assert_allclose((pixels[:, 0] * 0.3530 + 0.2860) * 255, images, atol=1e-3)
    assert labels.tolist() == [i % 10 for i in range(12)]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], "another size than it says"),
        (lambda data: data + b"x", "another size than it says"),
        (lambda data: data[:7], "ends in its header"),
        (lambda data: b"\x1f\x8b" + data[2:], "cannot read an IDX file"),
        (lambda data: b"PK" + data[2:], "not an IDX file"),
        (lambda data: b"", "not an IDX file"),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path: Path, damage, message: str) -> None:
    _write_images(tmp_path, 3, compressed=False)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(EdgeIRError, match=message):
        load_images(tmp_path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(EdgeIRError, match=r"data file is missing(.|\n)*dataset-fashion-mnist"):
        load_images(tmp_path)


def test_the_recipe_of_the_example_is_one() -> None:
    recipe, _ = read_recipe(Path(__file__).resolve().parents[2] / "examples" / "fashion_mnist" / "recipe.toml")
    assert [stage.name for stage in recipe.rounds()] == ["prune-1", "prune-2", "quantize"]
    assert all(stage.train is not None and stage.train.distill is not None for stage in recipe.stages)
