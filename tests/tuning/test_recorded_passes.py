"""Records of whole models."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeir.compiler import prepare
from edgeir.passes.pipelines import default_pipeline
from edgeir.targets import lookup
from edgeir.tuning.recorded_passes import model_context, pipeline_record, recorded_passes
from edgeir.tuning.records import RecordStore
from tests.tuning.small_network import small_network

TARGET = lookup("x86-64-v3").with_cores(1)


def other_pipeline() -> str:
    return str(default_pipeline(TARGET)).replace("assign-layouts", "assign-layouts{block=1}")


@pytest.mark.parametrize(("seconds", "used"), [(0.9, True), (0.995, False), (1.2, False)])
def test_a_pipeline_is_used_if_it_was_measured_to_be_worth_it(tmp_path: Path, seconds: float, used: bool) -> None:
    graph = small_network()
    with RecordStore(tmp_path / "r.sqlite") as store:
        store.add([pipeline_record(graph, TARGET, other_pipeline(), seconds, 1.0)])
        assert recorded_passes(store, graph, TARGET) == (other_pipeline() if used else None)
        assert recorded_passes(store, graph, TARGET.with_cores(2)) is None
        assert recorded_passes(store, small_network(channels=48), TARGET) is None
    compilation = prepare(graph, TARGET, records=tmp_path / "r.sqlite")
    assert ("assign-layouts{block=1}" in compilation.manifest.passes) == used
    layouts = {value.type.layout for node in compilation.optimized.nodes for value in node.outputs}
    assert (layouts == {""}) == used
    assert "block=1" not in prepare(graph, TARGET, records=tmp_path / "r.sqlite", tuned=False).manifest.passes


def test_records_of_a_model_do_not_depend_on_its_weights() -> None:

    first, second = small_network(), small_network()
    assert model_context(first, TARGET).hash == model_context(second, TARGET).hash
    for other in (small_network(size=15), small_network(channels=64)):
        assert model_context(first, TARGET).hash != model_context(other, TARGET).hash
