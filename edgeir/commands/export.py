"""Writing a model as standard ONNX, after passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeir.compiler import load_model
from edgeir.export import export_model
from edgeir.passes.pipelines import simplification_pipeline
from edgeir.passmanager import PassContext, Pipeline


def export_onnx(
    model: Path,
    output: Path,
    shapes: Mapping[str, Sequence[int]] | None = None,
    passes: str | None = None,
    format: str = "float",
) -> str:
    """Imports a model, runs passes over it and writes it as ONNX.

    Args:
        model: ONNX file or IR text.
        output: the file to write.
        shapes: input name → sizes.
        passes: pipeline text; None for the simplification pipeline, "" for no passes.
        format: `float` or `qdq`; see `edgeir.export.export_model`.

    Returns:
        A line that tells what was written.

    Raises:
        EdgeIRError: the model cannot be read, imported or exported, or a pass is unknown.
    """
    graph = load_model(model, shapes)
    pipeline = simplification_pipeline() if passes is None else Pipeline(passes) if passes.strip() else None
    if pipeline is not None:
        pipeline.run(graph, PassContext())
    written = export_model(graph, output, format)
    return f"{output}: {len(written.graph.node)} nodes, operator set {written.opset_import[0].version}"
