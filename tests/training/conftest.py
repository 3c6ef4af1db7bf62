"""Training in tests uses one thread: the same results on every machine, and no contention for tiny kernels."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

HAVE_TORCH = importlib.util.find_spec("torch") is not None


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return None if HAVE_TORCH else True


def pytest_report_header() -> str | None:
    return None if HAVE_TORCH else "tests/training: left out, training needs PyTorch (extra train)"


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
