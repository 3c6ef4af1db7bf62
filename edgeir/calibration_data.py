"""Samples of a model's inputs, from files, arrays, or an iterator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir import Value
from edgeir.ir.dtype import numpy_dtype

Sample = dict[str, np.ndarray]
Source = str | Path | np.ndarray | Mapping[str, np.ndarray] | Iterable[Mapping[str, np.ndarray]]

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm"})


@dataclass(frozen=True)
class ImageOptions:
    """How a picture becomes an input: resized to its height and width, then (pixel − mean) / deviation.

    Attributes:
        mean: of each channel, or one for all, in units of pixels (0 to 255).
        deviation: of each channel, or one for all.
    """

    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (255.0,)


class Samples(Sequence[Sample]):
    """Samples that are read when they are asked for.

    Args:
        count: how many there are.
        read: number of a sample → input name → array.
    """

    def __init__(self, count: int, read: Callable[[int], Sample]) -> None:
        self._count = count
        self._read = read

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            chosen = range(self._count)[index]
            return Samples(len(chosen), lambda number: self._read(chosen[number]))
        return self._read(range(self._count)[index])


def samples_from(
    source: Source, inputs: Sequence[Value], *, images: ImageOptions | None = None, limit: int | None = None
) -> Sequence[Sample]:
    """Samples for a graph's inputs.

    Args:
        source: an `.npz` file with an array for each input, by name; an `.npy` file, an array, or a folder of pictures
            for a graph of one input; a folder of such files, each a sample or several; a mapping of arrays; or an
            iterable of samples, each input name → array. The leading axis of arrays counts samples: each gives as many
            samples as the model's batch fits into it, one after the other.
        inputs: the graph's inputs. A symbolic leading dimension is taken as a batch of 1.
        images: how pictures are read; plain pixels / 255 if None. Needs Pillow.
        limit: the most samples to use; all if None.

    Raises:
        EdgeIRError: nothing is there, or what is there does not fit.
    """
    if isinstance(source, str | Path):
        found = _from_path(Path(source), inputs, images or ImageOptions())
    elif isinstance(source, np.ndarray):
        found = _from_arrays({_only(inputs, "an array").name: source}, inputs, "the array")
    elif isinstance(source, Mapping):
        arrays: Any = source
        found = _from_arrays(arrays, inputs, "the arrays")
    else:
        items: Sequence[Mapping[str, np.ndarray]] = source if isinstance(source, Sequence) else list(source)
        found = Samples(len(items), lambda number: dict(items[number]))
    if not len(found):
        raise EdgeIRError("there are no samples", where=_shown(source), expected="at least one")
    return found if limit is None else found[:limit]


def _shown(source: Source) -> str:
    return str(source) if isinstance(source, str | Path) else "calibration data"


def _only(inputs: Sequence[Value], what: str) -> Value:
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise EdgeIRError(f"{what} cannot tell which input it is for", expected="arrays by name", got=names)
    return inputs[0]


def _from_path(path: Path, inputs: Sequence[Value], images: ImageOptions) -> Sequence[Sample]:
    if not path.exists():
        raise EdgeIRError("no such file or folder of samples", where=str(path))
    if not path.is_dir():
        return _from_file(path, inputs, images)
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in {".npz", ".npy", *IMAGES})
    if not files:
        raise EdgeIRError(
            "the folder holds no samples", where=str(path), expected=f".npz, .npy, {', '.join(sorted(IMAGES))}"
        )
    parts = [_from_file(file, inputs, images) for file in files]
    places = [(part, number) for part in parts for number in range(len(part))]
    return Samples(len(places), lambda index: places[index][0][places[index][1]])


def _from_file(path: Path, inputs: Sequence[Value], images: ImageOptions) -> Sequence[Sample]:
    if path.suffix.lower() in IMAGES:
        return Samples(1, lambda _: _picture(path, _only(inputs, "a picture"), images))
    try:
        loaded = np.load(path, allow_pickle=False, mmap_mode="r" if path.suffix == ".npy" else None)
        arrays = {name: loaded[name] for name in loaded.files} if hasattr(loaded, "files") else loaded
    except Exception as error:  # zipfile, zlib and numpy each raise types of their own.
        expected = "arrays saved with numpy.save or numpy.savez, or a picture"
        raise EdgeIRError("cannot read samples", where=str(path), expected=expected, got=str(error)) from None
    if isinstance(arrays, np.ndarray):
        arrays = {_only(inputs, "a .npy file").name: arrays}
    return _from_arrays(arrays, inputs, str(path))


def _from_arrays(arrays: Mapping[str, np.ndarray], inputs: Sequence[Value], where: str) -> Sequence[Sample]:
    counts: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for value in inputs:
        if value.name not in arrays:
            got = ", ".join(arrays) or "no arrays"
            raise EdgeIRError("there is no array for an input", where=where, expected=repr(value), got=got)
        array, rank = np.asarray(arrays[value.name]), value.type.rank
        batch = value.type.shape[0] if rank else 1
        if array.ndim == rank + 1:
            size = 0
        elif rank and array.ndim == rank:
            size = batch if isinstance(batch, int) else 1
        else:
            expected = f"{value!r} with an axis of samples before or in its first dimension"
            raise EdgeIRError("an array does not fit an input", where=where, expected=expected, got=list(array.shape))
        if size and array.shape[0] % size:
            expected = f"a multiple of {size} along the first axis"
            raise EdgeIRError("an array does not fit an input", where=where, expected=expected, got=list(array.shape))
        counts[value.name], sizes[value.name] = array.shape[0] // (size or 1), size
    if len(set(counts.values())) > 1:
        raise EdgeIRError("inputs have different numbers of samples", where=where, got=counts)

    def read(number: int) -> Sample:
        sample = {}
        for value in inputs:
            array, size = arrays[value.name], sizes[value.name]
            part = array[number * size : (number + 1) * size] if size else array[number]
            sample[value.name] = _as_input(np.asarray(part), value, f"{where}, sample {number}")
        return sample

    return Samples(next(iter(counts.values()), 0), read)


def _as_input(array: np.ndarray, value: Value, where: str) -> np.ndarray:
    """An array in an input's element type; only conversions that keep the kind of number are made."""
    wanted = numpy_dtype(value.type.dtype)
    if array.dtype != wanted and not np.can_cast(array.dtype, wanted, "same_kind"):
        raise EdgeIRError("an array has another element type", where=where, expected=repr(value), got=array.dtype.name)
    return np.ascontiguousarray(array, wanted)


def _picture(path: Path, value: Value, options: ImageOptions) -> Sample:
    """A picture as (1, C, H, W) or (1, H, W, C), whichever the input is."""
    try:
        from PIL import Image
    except ImportError:
        raise EdgeIRError("pictures need Pillow", where=str(path), hint="pip install pillow") from None
    shape: tuple[Any, ...] = value.type.shape
    if len(shape) != 4 or not {shape[1], shape[3]} & {1, 3}:
        raise EdgeIRError("the input takes no pictures", where=str(path), expected="[N, 1 or 3, H, W]", got=repr(value))
    channels_first = shape[1] in (1, 3)
    channels, height, width = (shape[1], *shape[2:]) if channels_first else (shape[3], *shape[1:3])
    if not (isinstance(height, int) and isinstance(width, int)):
        raise EdgeIRError("the input's height and width are open", got=repr(value), hint="fix them with shapes=…")
    try:
        with Image.open(path) as image:
            pixels = image.convert("L" if channels == 1 else "RGB").resize((width, height), Image.Resampling.BICUBIC)
            array = np.asarray(pixels, np.float64).reshape(height, width, channels)
    except OSError as error:
        raise EdgeIRError("cannot read a picture", where=str(path), got=str(error)) from None
    array = (array - np.array(options.mean)) / np.array(options.deviation)
    array = array.transpose(2, 0, 1) if channels_first else array
    return {value.name: np.ascontiguousarray(array[None].astype(numpy_dtype(value.type.dtype)))}
