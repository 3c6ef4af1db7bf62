"""Artifacts and how they run: numpy and the TVM runtime are all that this needs."""

from edgeir.runtime.artifact import Artifact
from edgeir.runtime.golden import OutputReport, VerifyReport, verify
from edgeir.runtime.machine import Machine
from edgeir.runtime.manifest import Manifest, TensorSpec
from edgeir.runtime.session import Session

__all__ = ["Artifact", "Machine", "Manifest", "OutputReport", "Session", "TensorSpec", "VerifyReport", "verify"]
