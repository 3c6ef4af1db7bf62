"""Whole models timed side by side, here and on a device behind RPC."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from edgeir.commands.tune import TuneOptions, tune
from edgeir.errors import EdgeIRError
from edgeir.ir import Graph
from edgeir.lowering.build import Lowered, build
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext
from edgeir.targets import host_cores, lookup
from edgeir.tuning.devices import DeviceError, open_device
from edgeir.tuning.measure_models import model_seconds
from edgeir.tuning.recorded_passes import model_context
from edgeir.tuning.records import RecordStore
from tests.tuning.small_network import small_network
from tests.tuning.test_measure import mapped_kernels, session_of


def compiled(graph: Graph) -> Lowered:
    target = lookup("host").with_cores(1)
    optimized = graph.copy()
    default_pipeline(target).run(optimized, PassContext(target=target))
    return build(optimized, target)


@pytest.fixture
def server() -> Iterator[Any]:
    from edgeir.commands.devices import start_server

    server = start_server("127.0.0.1", 9500, "", None)
    yield server
    server.terminate()


def address(server: Any) -> str:
    return f"rpc://127.0.0.1:{server.port}"


def test_of_two_models_the_one_with_more_work_takes_longer() -> None:
    graph = small_network(56, 64)
    # Sixteen times the pixels: no noise of the machine makes up for that.
    large, small = compiled(graph), compiled(small_network(14, 64))
    seconds = [model_seconds(graph, [large], 1, 0.5)[0], model_seconds(small_network(14, 64), [small], 1, 0.5)[0]]
    assert seconds[0] > seconds[1] > 0


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_models_run_in_the_device_s_session(server: Any) -> None:
    graph = small_network()
    models = [compiled(graph), compiled(graph)]
    loaded: set[str] = set()
    with ThreadPoolExecutor() as pool:
        running = pool.submit(model_seconds, graph, models, 1, 3.0, address(server))
        while not running.done():
            if (session := session_of(server)) is not None:
                try:
                    loaded |= mapped_kernels(session)
                except OSError:
                    break
            time.sleep(0.05)
        seconds = running.result(120)
    assert len(seconds) == 2
    assert all(0 < value < 1 for value in seconds)
    assert sorted(Path(name).name.rpartition("-")[2] for name in loaded) == ["0.so", "1.so"]


def test_a_device_that_is_gone_is_named(server: Any) -> None:
    graph, place = small_network(), address(server)
    server.terminate()
    with pytest.raises(EdgeIRError, match="whole model could not be measured") as raised:
        model_seconds(graph, [compiled(graph)], 1, 0.2, place)
    assert place in str(raised.value)


def test_tuning_over_rpc_reports_the_device_s_latency_of_the_whole_model(server: Any, tmp_path: Path) -> None:
    graph = small_network()
    report = tune(TuneOptions(graph, trials=8, device=address(server), records=tmp_path / "r.sqlite"))
    assert report.trials >= 8
    # Choices above kernels were made there, too.
    with RecordStore(tmp_path / "r.sqlite") as store:
        assert store.count(model_context(graph, lookup("host").with_cores(1))) == 1
    # The default's kernels, timed alone there, add up to about the whole.
    assert 0.2 * report.predicted_default < report.measured_default < 20 * report.predicted_default
    assert 0 < report.measured < 20 * report.predicted_default


def test_a_device_s_kernels_use_the_threads_that_are_asked_for(server: Any) -> None:
    for threads in range(1, min(2, host_cores()) + 1):
        device = open_device(address(server), threads, 60)
        session: Any = device._session
        assert int(session.get_function("runtime.NumThreads")()) == threads
        session.get_function("CloseRPCConnection")()
    with pytest.raises(DeviceError, match="at most"):
        open_device(address(server), 1 + host_cores(), 60)
