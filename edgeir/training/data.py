"""Training data as batches: arrays, a torch Dataset or a torch DataLoader, in an order that can be repeated.

A batch is (inputs, targets): inputs are a tensor, a sequence of tensors, or input name → tensor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from edgeir.errors import EdgeIRError

Inputs = torch.Tensor | Sequence[torch.Tensor] | Mapping[str, torch.Tensor]
Batch = tuple[Inputs, Any]
Augmentation = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
"""Changes a batch of inputs, with all its randomness from the generator."""

Arrays = tuple[Any, Any]
"""Inputs (an array, or input name → array) and targets, equally long in axis 0."""

_EXPECTED = "a DataLoader, a Dataset, or arrays (inputs, targets)"


class BatchSource(ABC):
    """Batches by epoch. What is in them depends on the source, the epoch, and the global random generators alone."""

    @abstractmethod
    def batches_per_epoch(self) -> int | None:
        """How many there are; None if that is not known beforehand."""

    @abstractmethod
    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, without the first `skip`."""


class IndexedBatches(BatchSource):
    """Batches of samples that are found by their positions, shuffled or not."""

    samples: int
    _batch_size: int
    _shuffle: bool
    _seed: int

    def batches_per_epoch(self) -> int:
        """Samples over batch size, rounded up."""
        return -(-self.samples // self._batch_size)

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, without the first `skip`, which cost nothing."""
        order = torch.arange(self.samples)
        if self._shuffle:
            order = torch.from_numpy(np.random.default_rng([self._seed, epoch]).permutation(self.samples))
        for index in range(skip, self.batches_per_epoch()):
            yield self._batch(order[index * self._batch_size : (index + 1) * self._batch_size], epoch, index)

    @abstractmethod
    def _batch(self, chosen: torch.Tensor, epoch: int, index: int) -> Batch:
        """The samples at these positions, batch `index` of its epoch."""


class ArrayBatches(IndexedBatches):
    """Batches of arrays in memory.

    Args:
        inputs: array or tensor (samples, …), or input name → such.
        targets: array or tensor (samples, …).
        batch_size: samples in a batch; the last one may be smaller.
        shuffle: whether each epoch has an order of its own.
        seed: of the order and the augmentation.
        augment: applied to each batch of a single input.

    Raises:
        EdgeIRError: there are no samples, or the arrays differ in length.
    """

    def __init__(
        self,
        inputs: Any,
        targets: Any,
        batch_size: int = 128,
        *,
        shuffle: bool = True,
        seed: int = 0,
        augment: Augmentation | None = None,
    ) -> None:
        self._inputs = {name: _tensor(array) for name, array in inputs.items()} if isinstance(inputs, Mapping) else None
        self._single = None if self._inputs is not None else _tensor(inputs)
        self._targets = _tensor(targets)
        self._batch_size, self._shuffle, self._seed, self._augment = batch_size, shuffle, seed, augment
        arrays = list(self._inputs.values()) if self._inputs is not None else [_present(self._single)]
        if self._targets.ndim == 0 or any(array.ndim == 0 for array in arrays):
            raise EdgeIRError("training data needs an axis of samples", got="a scalar")
        self.samples = len(self._targets)
        if not arrays or not self.samples:
            raise EdgeIRError("there is no training data", got="0 samples")
        for array in arrays:
            if len(array) != self.samples:
                raise EdgeIRError("inputs and targets differ in length", expected=self.samples, got=len(array))
        if batch_size < 1:
            raise EdgeIRError("a batch needs at least one sample", got=batch_size)
        if augment is not None and self._single is None:
            raise EdgeIRError("augmentation needs a single input", got=f"{len(arrays)} named inputs")

    def _batch(self, chosen: torch.Tensor, epoch: int, index: int) -> Batch:
        if self._inputs is not None:
            return {name: array[chosen] for name, array in self._inputs.items()}, self._targets[chosen]
        inputs = _present(self._single)[chosen]
        if self._augment is not None:
            # A generator per batch, so that a resumed run continues where the killed one stood.
            state = np.random.SeedSequence([self._seed, epoch, index]).generate_state(2, np.uint32)
            generator = torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))
            inputs = self._augment(inputs, generator)
        return inputs, self._targets[chosen]


class DatasetBatches(IndexedBatches):
    """Batches of a map-style Dataset, whose samples are (input, target), loaded in this process."""

    def __init__(self, dataset: Dataset[Any], batch_size: int = 128, *, shuffle: bool = True, seed: int = 0) -> None:
        if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
            raise EdgeIRError("the dataset has no length", got=type(dataset).__name__, hint="pass a DataLoader of it")
        self._dataset, self._batch_size, self._shuffle, self._seed = dataset, batch_size, shuffle, seed
        self.samples = len(dataset)  # pyright: ignore[reportArgumentType]
        if not self.samples:
            raise EdgeIRError("there is no training data", got="0 samples")

    def _batch(self, chosen: torch.Tensor, epoch: int, index: int) -> Batch:
        return _pair(default_collate([self._dataset[int(position)] for position in chosen]))


class LoaderBatches(BatchSource):
    """Batches of a DataLoader. To go on within an epoch, the batches before are loaded again and dropped."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader

    def batches_per_epoch(self) -> int | None:
        """The loader's length, if it has one.

        Raises:
            EdgeIRError: it is zero.
        """
        try:
            length = len(self.loader)
        except TypeError:
            return None
        if not length:
            raise EdgeIRError("there is no training data", got="a DataLoader without batches")
        return length

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, without the first `skip`."""
        batches = iter(self.loader)
        # At once, not when the first batch is asked for: the caller sets the random generators in between.
        for _ in range(skip):
            next(batches, None)
        return map(_pair, batches)


def as_source(
    data: Any,
    batch_size: int = 128,
    *,
    shuffle: bool = True,
    seed: int = 0,
    augment: Augmentation | None = None,
) -> BatchSource:
    """A source of batches from whatever holds the data.

    Args:
        data: a `BatchSource`, a DataLoader, a Dataset of (input, target), or arrays (inputs, targets).
        batch_size: for datasets and arrays.
        shuffle: for datasets and arrays.
        seed: for datasets and arrays.
        augment: for arrays.

    Raises:
        EdgeIRError: it is nothing of these, or empty.
    """
    if augment is not None and not isinstance(data, tuple | list):
        raise EdgeIRError("augmentation is for arrays", got=type(data).__name__, hint="augment in the dataset itself")
    if isinstance(data, BatchSource):
        return data
    if isinstance(data, DataLoader):
        return LoaderBatches(data)
    if isinstance(data, Dataset):
        return DatasetBatches(data, batch_size, shuffle=shuffle, seed=seed)
    if isinstance(data, tuple | list) and len(data) == 2:
        return ArrayBatches(data[0], data[1], batch_size, shuffle=shuffle, seed=seed, augment=augment)
    raise EdgeIRError("not training data", expected=_EXPECTED, got=type(data).__name__)


def to_device(value: Any, device: torch.device) -> Any:
    """Tensors of a batch on a device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {name: to_device(item, device) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_device(item, device) for item in value]
    return value


def batch_length(inputs: Inputs) -> int:
    """Samples in a batch.

    Raises:
        EdgeIRError: there are no inputs.
    """
    if isinstance(inputs, torch.Tensor):
        return len(inputs)
    tensors = list(inputs.values()) if isinstance(inputs, Mapping) else list(inputs)
    if not tensors:
        raise EdgeIRError("a batch has no inputs")
    return len(tensors[0])


def _pair(batch: Any) -> Batch:
    if isinstance(batch, list | tuple) and len(batch) == 2:
        return batch[0], batch[1]
    raise EdgeIRError("a batch must be (inputs, targets)", got=type(batch).__name__, hint="collate it so")


def _tensor(array: Any) -> torch.Tensor:
    if isinstance(array, torch.Tensor):
        return array
    try:
        array = np.asarray(array)
        # torch warns of memory that it may not write to; nothing here writes.
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    except (TypeError, ValueError) as error:
        raise EdgeIRError("not an array of numbers", expected=_EXPECTED, got=str(error)) from None


def _present(tensor: torch.Tensor | None) -> torch.Tensor:
    assert tensor is not None
    return tensor
