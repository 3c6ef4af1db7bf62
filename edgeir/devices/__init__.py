"""Other machines on which artifacts run: emulated ones, and boards reached over TVM's RPC."""

from edgeir.devices.device import Device, device_named, verify_on
from edgeir.devices.emulated import EmulatedDevice
from edgeir.devices.remote import RemoteDevice
from edgeir.devices.setup import default_folder, missing_packages, set_up

__all__ = [
    "Device",
    "EmulatedDevice",
    "RemoteDevice",
    "default_folder",
    "device_named",
    "missing_packages",
    "set_up",
    "verify_on",
]
