"""Records of whole models: which pipeline of passes was measured to be the fastest."""

from __future__ import annotations

import hashlib
import time

from edgeir.ir.graph import Graph
from edgeir.targets.target import Target
from edgeir.tuning.context import Context, target_features
from edgeir.tuning.record import Record
from edgeir.tuning.records import RecordStore, ranking
from edgeir.tuning.versions import compiler_versions

TEMPLATE = "pipeline"
WORTHWHILE = 0.99
"""A pipeline must take at most this share of the default's time to be used instead."""


def model_context(graph: Graph, target: Target) -> Context:
    """What records of a whole model are stored under: its operators, names and types, but not its weights.

    Args:
        graph: as imported, with static shapes.
        target: the machine; its cores are the threads.
    """
    lines = [f"{value.name}: {value.type}" for value in graph.inputs]
    for node in graph.nodes:
        operands = [None if value is None else (value.name, str(value.type)) for value in node.inputs]
        results = [(value.name, str(value.type)) for value in node.outputs]
        lines.append(f"{results} = {node.op}({operands}) {sorted(node.attributes.items())}")
    lines.append(str([value.name for value in graph.outputs]))
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return Context(f"model {digest}", target_features(target), target.cores, compiler_versions())


def pipeline_record(graph: Graph, target: Target, passes: str, seconds: float, default_seconds: float) -> Record:
    """A measurement of a whole model.

    Args:
        graph: as imported.
        target: the machine.
        passes: text of the pipeline.
        seconds: of one run.
        default_seconds: of one run of the default pipeline, measured in turn with it.
    """
    context = model_context(graph, target)
    return Record(context, TEMPLATE, {"passes": passes}, seconds, seconds, default_seconds, time=time.time())


def recorded_passes(store: RecordStore, graph: Graph, target: Target) -> str | None:
    """Text of the fastest pipeline, where one is known that is worth it."""
    ranked = ranking([record for record in store.records(model_context(graph, target)) if record.template == TEMPLATE])
    if not ranked or ranked[0].ratio > WORTHWHILE:
        return None
    return str(ranked[0].config["passes"])
