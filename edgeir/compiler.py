"""From a model to an artifact: import, passes, lowering, code generation, golden pair."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.frontend import load
from edgeir.ir import Graph, Value, graph_statistics, load_graph
from edgeir.ir.evaluate import evaluate
from edgeir.ir.shapes import fix_shapes, require_static
from edgeir.lowering.build import Lowered, build, export
from edgeir.lowering.linking import linker_for
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext, Pipeline, example_inputs
from edgeir.runtime import Artifact, Manifest, TensorSpec
from edgeir.targets import Target, lookup
from edgeir.tuning.recorded import RecordedScheduler
from edgeir.tuning.recorded_passes import recorded_passes
from edgeir.tuning.records import RecordStore, default_path

StageObserver = Callable[[str, float | None], None]
"""Called with a stage's name and None when it starts, and with its seconds when it ends."""


def compile(
    model: str | Path | Graph,
    target: str | Target = "host",
    shapes: Mapping[str, Sequence[int]] | None = None,
    passes: str | Pipeline | None = None,
    threads: int | None = None,
    output: str | Path = "model.edgeir",
    *,
    golden_inputs: Mapping[str, np.ndarray] | None = None,
    on_stage: StageObserver | None = None,
    records: str | Path | None = None,
    tuned: bool = True,
) -> Artifact:
    """Compile a model for a target.

    Args:
        model: path of an ONNX file or of IR text, or a graph (which stays as it is).
        target: a preset, an LLVM triple, `host`, or a `Target`.
        shapes: input name → sizes, where the model leaves dimensions open.
        passes: the pipeline, as text or `Pipeline`; if None, the one that tuning found for this model, or else the
            target's default pipeline.
        threads: number of threads to generate code for; the target's number of cores if None.
        output: the artifact folder to write.
        golden_inputs: input name → array for the artifact's golden pair; seeded random data if None. The golden
            outputs come from the reference evaluator on the graph as imported, or, where the graph quantizes, on the
            graph of integers that the passes made of it.
        on_stage: told when each stage starts and ends.
        records: file of measurements; `EDGEIR_RECORDS` or the one in the user's cache folder if None.
        tuned: whether kernels are scheduled by the best record for the target and number of threads.

    Returns:
        The artifact.

    Raises:
        EdgeIRError: the model cannot be read, imported or compiled; nothing is written then.
    """
    machine = lookup(target) if isinstance(target, str) else target
    linker_for(machine)  # a missing cross compiler is told before the work, not after
    compilation = prepare(
        *(model, machine, shapes, passes, threads),
        golden_inputs=golden_inputs,
        on_stage=on_stage,
        records=records,
        tuned=tuned,
    )
    stage = _Stages(on_stage)
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "model.so"
        with stage("link"):
            export(compilation.lowered, library)
        manifest = compilation.manifest
        with stage("write"):
            return Artifact.write(
                output,
                library,
                replace(manifest, code_bytes=max(0, library.stat().st_size - manifest.constant_bytes)),
                compilation.golden_inputs,
                compilation.golden_outputs,
            )


@dataclass(frozen=True)
class Compilation:
    """A compiled model of which nothing has been written yet.

    Attributes:
        graph: as imported.
        optimized: after the passes.
        lowered: the code.
        manifest: all but what depends on the files to be written.
        golden_inputs, golden_outputs: name → array.
    """

    graph: Graph
    optimized: Graph
    lowered: Lowered
    manifest: Manifest
    golden_inputs: Mapping[str, np.ndarray]
    golden_outputs: Mapping[str, np.ndarray]


def prepare(
    model: str | Path | Graph,
    target: str | Target = "host",
    shapes: Mapping[str, Sequence[int]] | None = None,
    passes: str | Pipeline | None = None,
    threads: int | None = None,
    *,
    golden_inputs: Mapping[str, np.ndarray] | None = None,
    on_stage: StageObserver | None = None,
    records: str | Path | None = None,
    tuned: bool = True,
) -> Compilation:
    """Compile a model without writing anything; see `compile`."""
    stage = _Stages(on_stage)
    machine = lookup(target) if isinstance(target, str) else target
    if threads is not None:
        machine = replace(machine, cores=threads)
    with stage("import"):
        graph = model if isinstance(model, Graph) else load_model(model, shapes)
        if isinstance(model, Graph) and shapes:
            graph = fix_shapes(graph, shapes)
        require_static(graph)
    with _records(records, tuned) as store:
        with stage("passes"):
            pipeline = _pipeline(passes, store, graph, machine)
            optimized = graph.copy()
            pipeline.run(optimized, PassContext(target=machine))
        with stage("lower and generate code"):
            scheduler = RecordedScheduler(store, machine)
            lowered = build(optimized, machine, scheduler=scheduler)
    with stage("golden pair"):
        inputs = dict(golden_inputs) if golden_inputs is not None else example_inputs(graph)
        quantized = _rounds(optimized)
        # Where numbers are rounded, one that lies between two steps may go either way when arithmetic is rearranged.
        outputs = evaluate(optimized if quantized else graph, inputs)
    manifest = Manifest(
        name=graph.name,
        inputs=_specs(graph.inputs, [value.name for value in graph.inputs]),
        outputs=_specs(graph.outputs, graph.output_names),
        target=machine,
        threads=machine.cores,
        passes=str(pipeline),
        constant_bytes=lowered.constant_bytes,
        peak_memory_bytes=_peak(graph, lowered),
        macs=graph_statistics(graph).macs,
        quantized=quantized,
        tuned_kernels=tuple(scheduler.tuned),
        untuned_kernels=tuple(scheduler.untuned),
    )
    return Compilation(graph, optimized, lowered, manifest, inputs, outputs)


@contextmanager
def _records(records: str | Path | None, tuned: bool) -> Iterator[RecordStore | None]:
    """The records in a file; a file named by nobody may be missing."""
    if not tuned or (records is None and not default_path().exists()):
        yield None
        return
    if records is not None and not Path(records).exists():
        raise EdgeIRError("there is no such file of records", where=str(records), hint="edgeir tune makes it")
    with RecordStore(records) as store:
        yield store


def _pipeline(passes: str | Pipeline | None, store: RecordStore | None, graph: Graph, target: Target) -> Pipeline:
    if passes is None and store is not None:
        passes = recorded_passes(store, graph, target)
    if passes is None:
        return default_pipeline(target)
    return Pipeline(passes) if isinstance(passes, str) else passes


def load_model(path: str | Path, shapes: Mapping[str, Sequence[int]] | None = None) -> Graph:
    """A graph from an ONNX file, or from IR text (any other ending than `.onnx`).

    Args:
        path: the file.
        shapes: input name → sizes.

    Raises:
        EdgeIRError: the file cannot be read, or is no model, or the shapes do not fit.
    """
    if Path(path).suffix == ".onnx":
        return load(path, shapes)
    graph = load_graph(path)
    return fix_shapes(graph, shapes) if shapes else graph


def _rounds(graph: Graph) -> bool:
    """Whether the graph rounds numbers to few bits."""
    bodies = [node.attributes["body"] for node in graph.nodes if node.op == "fused"]
    return any(node.op in ("quantize", "log_quantize") for node in graph.nodes) or any(map(_rounds, bodies))


def _peak(graph: Graph, lowered: Lowered) -> int:
    """Inputs, planned intermediate values and outputs, and the largest workspace of a kernel, in bytes."""
    inputs = sum(value.type.bytes for value in graph.inputs)
    return inputs + lowered.activation_bytes + lowered.workspace_bytes


def _specs(values: Sequence[Value], names: Sequence[str]) -> tuple[TensorSpec, ...]:
    types = [value.type for value in values]
    return tuple(TensorSpec(name, type.dtype, type.static_shape) for name, type in zip(names, types, strict=True))


class _Stages:
    def __init__(self, observer: StageObserver | None) -> None:
        self._observer = observer

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        if self._observer is not None:
            self._observer(name, None)
        yield
        if self._observer is not None:
            self._observer(name, time.perf_counter() - start)
