"""Static cost: what `edgeir inspect --cost` adds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeir.commands.energy import MAC_PICOJOULES, energy, graph_energy
from edgeir.commands.hot_loops import hot_loops
from edgeir.errors import EdgeIRError
from edgeir.ir import Graph
from edgeir.runtime import Artifact
from edgeir.runtime.dtypes import carrier_dtype


def graph_cost(graph: Graph) -> dict[str, Any]:
    """The estimated energy of one inference of a graph with fixed shapes.

    Raises:
        EdgeIRError: a dimension is symbolic.
    """
    try:
        return {"energy": graph_energy(graph).rows()}
    except EdgeIRError as error:
        raise EdgeIRError("a cost needs fixed shapes", got=error.got, hint="fix them with --shape") from None


def artifact_cost(path: Path) -> dict[str, Any]:
    """Bytes that must move, the energy they and the multiply-accumulates take, and predicted cycles of hot loops.

    An artifact does not tell its operators: multiply-accumulates count in the type of its first input where that is a
    float, as float32 otherwise, and intermediate values as written and read once at the peak of memory.

    Raises:
        ArtifactError: the folder is no artifact.
    """
    artifact = Artifact.load(path)
    manifest = artifact.manifest
    boundary = 0
    for spec in (*manifest.inputs, *manifest.outputs):
        size = carrier_dtype(spec.dtype).itemsize
        for extent in spec.shape:
            size *= extent
        boundary += size
    dtype = next((s.dtype for s in manifest.inputs if s.dtype in MAC_PICOJOULES and "float" in s.dtype), "float32")
    estimate = energy(
        manifest.macs * MAC_PICOJOULES[dtype], 2 * manifest.peak_memory_bytes, manifest.constant_bytes + boundary
    )
    return {
        "least_moved_bytes": manifest.constant_bytes + boundary,
        "energy": estimate.rows(),
        "hot loops": hot_loops(artifact.library, manifest.target),
    }
