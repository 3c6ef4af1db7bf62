"""Random changes of image batches; all randomness comes from the given generator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from edgeir.errors import EdgeIRError
from edgeir.training.data import Augmentation


def flip_horizontally(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirrors each image (N, C, H, W) with probability one half."""
    flipped = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(flipped[:, None, None, None], images.flip(3), images)


class Shift:
    """Moves each image (N, C, H, W) by up to `pixels` in both directions; the edge fills with zeros."""

    def __init__(self, pixels: int) -> None:
        if pixels < 1:
            raise EdgeIRError("a shift needs at least one pixel", got=pixels)
        self.pixels = pixels

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Crops at a random place of the padded image."""
        count, channels, height, width = images.shape
        padded = F.pad(images, (self.pixels,) * 4)
        place = torch.randint(0, 2 * self.pixels + 1, (2, count), generator=generator)
        rows = (place[0][:, None] + torch.arange(height))[:, None, :, None]
        columns = (place[1][:, None] + torch.arange(width))[:, None, None, :]
        samples = torch.arange(count)[:, None, None, None]
        return padded[samples, torch.arange(channels)[None, :, None, None], rows, columns]


class Erase:
    """Sets a square of `pixels` side at a random place of each image to zero with probability one half (random
    erasing, Zhong et al. 2020, with a fixed size)."""

    def __init__(self, pixels: int) -> None:
        if pixels < 1:
            raise EdgeIRError("a square needs at least one pixel", got=pixels)
        self.pixels = pixels

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Erases."""
        count, _, height, width = images.shape
        chosen = torch.rand(count, generator=generator) < 0.5
        top = torch.randint(0, max(1, height - self.pixels + 1), (count, 1), generator=generator)
        left = torch.randint(0, max(1, width - self.pixels + 1), (count, 1), generator=generator)
        rows, columns = torch.arange(height)[None], torch.arange(width)[None]
        inside_rows = (rows >= top) & (rows < top + self.pixels)
        inside_columns = (columns >= left) & (columns < left + self.pixels)
        erased = inside_rows[:, :, None] & inside_columns[:, None, :] & chosen[:, None, None]
        return images.masked_fill(erased[:, None], 0.0)


class Composition:
    """Several augmentations, one after another."""

    def __init__(self, steps: Sequence[Augmentation]) -> None:
        self.steps = tuple(steps)

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Applies all."""
        for step in self.steps:
            images = step(images, generator)
        return images


def augmentation(names: Sequence[str]) -> Augmentation | None:
    """An augmentation from names: `flip`, `shift=N`, `erase=N` (N in pixels); None for no names.

    Raises:
        EdgeIRError: an unknown name, or N is not a positive number.
    """
    steps: list[Augmentation] = []
    for text in names:
        name, _, size = text.partition("=")
        if name == "flip" and not size:
            steps.append(flip_horizontally)
        elif name in ("shift", "erase") and size.isdigit():
            steps.append((Shift if name == "shift" else Erase)(int(size)))
        else:
            raise EdgeIRError("unknown augmentation", expected="flip, shift=N or erase=N", got=text)
    return Composition(steps) if steps else None
