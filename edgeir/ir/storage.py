"""Graphs on disk: the text, and beside it one `.npz` with the constants that the text names by hash."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir.dtype import dtype_name, numpy_dtype
from edgeir.ir.graph import Graph
from edgeir.ir.op import Kind
from edgeir.ir.parser import parse_graph
from edgeir.ir.printer import INLINE_ELEMENTS, print_graph


def large_constants(graph: Graph) -> dict[str, np.ndarray]:
    """The arrays that the graph's text names by hash, by `Value.digest`, those of bodies included."""
    found = {value.digest: value.data for value in graph.constants if value.data.size > INLINE_ELEMENTS}
    for node in graph.nodes:
        for key, spec in node.definition.attributes.items():
            if spec.kind is Kind.GRAPH and node.attributes[key] is not None:
                found |= large_constants(node.attributes[key])
    return found


def save_graph(graph: Graph, path: str | Path) -> None:
    """Writes `path` (text) and, where the graph has large constants, `path` + `.npz`."""
    path = Path(path)
    path.write_text(print_graph(graph) + "\n", encoding="utf-8")
    constants = large_constants(graph)
    companion = _companion(path)
    if not constants:
        companion.unlink(missing_ok=True)
        return
    # npz knows numpy's own dtypes only, so elements travel as bytes, and dtype and shape in the entry's name.
    arrays = {
        f"{digest}|{dtype_name(array.dtype)}|{','.join(map(str, array.shape))}": np.frombuffer(
            np.ascontiguousarray(array).tobytes(), np.uint8
        )
        for digest, array in constants.items()
    }
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    companion.write_bytes(buffer.getvalue())


def load_graph(path: str | Path) -> Graph:
    """Reads a graph that `save_graph` wrote.

    Raises:
        EdgeIRError: a file is missing or damaged, or the text is not a valid graph.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EdgeIRError("cannot read IR text", where=str(path), got=str(error)) from None
    companion = _companion(path)
    constants: dict[str, np.ndarray] = {}
    if companion.exists():
        try:
            with np.load(companion, allow_pickle=False) as archive:
                for key in archive.files:
                    digest, dtype, shape = key.split("|")
                    dims = [int(size) for size in shape.split(",") if size]
                    constants[digest] = archive[key].view(numpy_dtype(dtype)).reshape(dims)
        except EdgeIRError:
            raise
        except Exception as error:  # zipfile, zlib and numpy each raise types of their own.
            raise EdgeIRError("cannot read the graph's constants", where=str(companion), got=str(error)) from None
    return parse_graph(text, constants)


def _companion(path: Path) -> Path:
    return path.with_name(path.name + ".npz")
