"""Fixtures and marks shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The machine's speed must not decide a test, and a build must not find what the next one does not.
settings.register_profile(
    "edgeir", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("edgeir")


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """The folder of real models beside the checkout; tests that need it skip where it is missing."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "models"
    if not folder.is_dir():
        pytest.skip("needs the real models in ../shared/models")
    return folder
