"""Compiling with records, and the commands around them."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeir.cli import app
from edgeir.commands.devices import is_loopback, parse_address, warning
from edgeir.commands.tune import TuneOptions, tune
from edgeir.compiler import compile
from edgeir.errors import EdgeIRError
from edgeir.ir import save_graph
from edgeir.lowering.build import build, default_scheduler
from edgeir.runtime import Session, verify
from edgeir.targets import lookup
from edgeir.targets.rpc_address import RpcAddress
from edgeir.tuning.devices import parse_device
from edgeir.tuning.record import Record
from edgeir.tuning.recorded import RecordedScheduler
from edgeir.tuning.records import RecordStore
from edgeir.tuning.tasks import kernel_tasks
from tests.tuning.record_writer import record
from tests.tuning.small_network import small_network
from tests.tuning.test_tasks import optimized

ROOT = Path(__file__).resolve().parents[2]


def test_the_best_record_schedules_its_kernel_and_no_other(tmp_path: Path) -> None:
    target = lookup("host").with_cores(1)
    graph = optimized(small_network(), target)
    task = next(task for task in kernel_tasks(graph, target) if task.count == 2)
    template, config = task.default
    other = dict(config)
    knob = next(knob for knob, values in task.spaces[template].items() if len(values) > 1)
    other[knob] = next(value for value in task.spaces[template][knob] if value != config[knob])
    with RecordStore(tmp_path / "r.sqlite") as store:
        store.add([Record(task.context, template, other, 1e-3, 1e-3, 2e-3, "", 1.0)])
        # Faster still, but not valid any more.
        store.add([Record(task.context, template, {"gone": 1}, 1e-4, 1e-4, 2e-3, "", 2.0)])
        scheduler = RecordedScheduler(store, target)
        kernels = {kernel.task.name: kernel for kernel in build(graph, target, scheduler=scheduler).kernels}
        assert dict(kernels[task.name].config) == other
        assert scheduler.tuned == [task.name]
        assert task.name not in scheduler.untuned
        choose = default_scheduler(target)
        for name, kernel in kernels.items():
            if name != task.name:
                assert dict(kernel.config) == dict(choose(kernel.task).config)
        for changed in (target.with_cores(2), lookup("x86-64-v2").with_cores(1)):
            elsewhere = RecordedScheduler(store, changed)
            build(optimized(small_network(), changed), changed, scheduler=elsewhere)
            assert elsewhere.tuned == []


def test_a_tuned_model_computes_the_same_and_its_manifest_names_untuned_kernels(tmp_path: Path) -> None:
    records = tmp_path / "r.sqlite"
    graph = small_network()
    report = tune(TuneOptions(graph, trials=30, records=records, seed=1))
    assert report.trials >= 30
    assert report.predicted <= report.predicted_default
    assert report.measured > 0 and report.measured_default > 0
    tuned = compile(graph, threads=1, output=tmp_path / "tuned", records=records)
    plain = compile(graph, threads=1, output=tmp_path / "plain", records=records, tuned=False)
    assert plain.manifest.tuned_kernels == ()
    assert set(plain.manifest.untuned_kernels) == {*tuned.manifest.tuned_kernels, *tuned.manifest.untuned_kernels}
    assert tuned.manifest.tuned_kernels
    assert verify(tmp_path / "tuned").passed
    x = np.random.default_rng(0).standard_normal((1, 3, 14, 14)).astype(np.float32)
    results = [Session(tmp_path / name, 1).run({"x": x})["y"] for name in ("tuned", "plain")]
    np.testing.assert_allclose(results[0], results[1], rtol=1e-3, atol=1e-4)


def test_compile_refuses_a_missing_file_of_records(tmp_path: Path) -> None:
    with pytest.raises(EdgeIRError, match="no such file of records"):
        compile(small_network(), output=tmp_path / "a", records=tmp_path / "none.sqlite")


def test_records_commands(tmp_path: Path) -> None:
    first, second, lines = tmp_path / "a.sqlite", tmp_path / "b.sqlite", tmp_path / "lines.jsonl"
    with RecordStore(first) as store:
        store.add([record(name, number) for name in "ab" for number in range(4)])

    def run(*arguments: object, file: Path = first) -> str:
        result = CliRunner().invoke(app, ["records", *map(str, arguments), "--records", str(file)])
        assert result.exit_code == 0, result.output
        return result.output

    assert run("count").strip() == "8"
    assert {row["records"] for row in json.loads(run("list", "--json"))} == {4}
    assert "8 records" in run("export", lines)
    assert "8 new" in run("import", lines, file=second)
    assert "4 records deleted" in run("prune", "--keep", 2, file=second)
    assert "4 records deleted" in run("prune", "--other-versions", file=second)
    assert run("count", file=second).strip() == "0"
    lines.write_text("{}\n")
    result = CliRunner().invoke(app, ["records", "import", str(lines), "--records", str(second)])
    assert isinstance(result.exception, EdgeIRError)
    assert "line 1" in str(result.exception)


def test_listing_records_loads_no_compiler(tmp_path: Path) -> None:
    code = "import sys, edgeir.tuning.records; assert 'tvm' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("text", ["", "here", "LOCAL", "rpc://host", "tracker://host:9190"])
def test_what_is_no_device_is_refused(text: str) -> None:
    with pytest.raises(EdgeIRError, match="not a device") as caught:
        parse_device(text)
    assert caught.value.where == "--device" and "local" in str(caught.value.expected)


@pytest.mark.parametrize("command", ["tune", "run", "verify"])
def test_the_help_names_the_forms_of_addresses(command: str) -> None:
    # A wide terminal, and no colours.
    environment = {"COLUMNS": "300", "TERMINAL_WIDTH": "300", "NO_COLOR": "1", "TERM": "dumb"}
    result = CliRunner().invoke(app, [command, "--help"], env=environment)
    assert result.exit_code == 0, result.exception
    assert "rpc://HOST:PORT/KEY" in result.output and "tracker://HOST:PORT/KEY" in result.output


def test_device_addresses() -> None:
    assert parse_device("local") is None
    assert parse_device("tracker://10.0.0.2:9190/pi4") == RpcAddress("10.0.0.2", 9190, "pi4", is_tracker=True)
    assert parse_address("localhost:9190") == ("localhost", 9190)
    assert warning("127.0.0.1", 1) is None and is_loopback("::1") and is_loopback("localhost")
    assert "controls this machine" in (warning("0.0.0.0", 9090) or "")


@pytest.mark.slow
def test_a_killed_tuning_run_goes_on_and_does_not_exceed_its_trials(tmp_path: Path) -> None:
    model, records = tmp_path / "net.txt", tmp_path / "r.sqlite"
    save_graph(small_network(), model)
    command = [sys.executable, "-m", "edgeir.cli", "tune", str(model), "--trials", "80", "--records", str(records)]
    generator, counts = random.Random(0), [0]
    for _ in range(8):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(generator.uniform(3, 8))
        process.send_signal(signal.SIGKILL)
        process.wait()
        with RecordStore(records) as store:
            counts.append(store.count())
    assert counts == sorted(counts)
    last = subprocess.run([*command, "--json"], cwd=ROOT, check=True, capture_output=True, timeout=300, text=True)
    # The records also hold kernels of other pipelines, which were compared.
    assert 80 <= json.loads(last.stdout)["trials"] <= 92
