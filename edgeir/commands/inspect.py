"""Facts about a model or an artifact, as plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, graph_statistics
from edgeir.runtime import Artifact


def inspect_graph(graph: Graph) -> dict[str, Any]:
    """Inputs, outputs, operators and costs of a graph; costs need fixed shapes and are left out without."""
    report: dict[str, Any] = {
        "name": graph.name,
        "inputs": [f"{value.name}: {value.type}" for value in graph.inputs],
        "outputs": [f"{name}: {value.type}" for name, value in zip(graph.output_names, graph.outputs, strict=True)],
    }
    try:
        statistics = graph_statistics(graph)
    except EdgeIRError:
        counts: dict[str, int] = {}
        for node in graph.nodes:
            counts[node.op] = counts.get(node.op, 0) + 1
        used = [value for value in graph.constants if value.is_used]
        return report | {
            "nodes": len(graph),
            "operators": counts,
            "parameters": sum(value.data.size for value in used),
            "parameter_bytes": sum(value.type.bytes for value in used),
            "cost": "fix the shapes with --shape to see multiply-accumulates and memory",
        }
    return report | {
        "nodes": statistics.nodes,
        "operators": statistics.operators,
        "parameters": statistics.parameters,
        "parameter_bytes": statistics.parameter_bytes,
        "macs": statistics.macs,
        "moved_bytes": statistics.bytes_moved,
        "peak_activation_bytes": statistics.peak_bytes,
    }


def inspect_artifact(path: Path) -> dict[str, Any]:
    """What an artifact's manifest says; its files are checked against their hashes, but nothing is loaded.

    Raises:
        ArtifactError: the folder is no artifact, or damaged.
    """
    artifact = Artifact.load(path)
    artifact.check_files()
    manifest = artifact.manifest
    return {
        "name": manifest.name,
        "inputs": [str(spec) for spec in manifest.inputs],
        "outputs": [str(spec) for spec in manifest.outputs],
        "target": manifest.target.name,
        "triple": manifest.target.triple,
        "required_features": list(manifest.required_features),
        "threads": manifest.threads,
        "macs": manifest.macs,
        "code_bytes": manifest.code_bytes,
        "constant_bytes": manifest.constant_bytes,
        "peak_activation_bytes": manifest.peak_memory_bytes,
        "versions": dict(manifest.versions),
        "passes": manifest.passes,
    }
