"""The emulated device, where it can be had."""

from __future__ import annotations

import pytest

from edgeir.devices import EmulatedDevice, missing_packages, set_up
from edgeir.errors import EdgeIRError


@pytest.fixture(scope="session")
def emulated() -> EmulatedDevice:
    """An emulated aarch64 device in the user's cache folder; tests skip where it cannot be set up."""
    missing = missing_packages()
    if missing:
        pytest.skip(f"needs Debian's {', '.join(missing)}")
    try:
        return EmulatedDevice.load(set_up())
    except EdgeIRError as error:
        pytest.skip(f"the emulated device cannot be set up: {error}")
