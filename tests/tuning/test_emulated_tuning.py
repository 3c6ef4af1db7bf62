"""Tuning on an emulated board: what is measured there counts for what is compiled for it; the times say nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgeir.cli import app
from edgeir.devices import EmulatedDevice, device_named, missing_packages, set_up, verify_on
from edgeir.devices.emulated_server import EmulatedServer
from edgeir.errors import EdgeIRError
from edgeir.ir.storage import save_graph
from edgeir.tuning.measure import Candidate, ProcessMeasurer
from edgeir.tuning.records import RecordStore
from tests.tuning.small_network import small_network
from tests.tuning.test_measure import tasks

pytestmark = pytest.mark.qemu
TARGET = "cortex-a72"


@pytest.fixture(scope="module")
def board() -> Iterator[str]:
    """A server that emulates a Cortex-A72."""
    if missing := missing_packages():
        pytest.skip(f"needs Debian's {', '.join(missing)}")
    try:
        server = EmulatedServer(EmulatedDevice.load(set_up(), TARGET), 9700, "a72")
    except EdgeIRError as error:
        pytest.skip(f"the emulated device cannot be set up: {error}")
    yield f"rpc://{server.host}:{server.port}/a72"
    server.terminate()


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_records_of_the_board_are_used_for_the_board(board: str, tmp_path: Path) -> None:
    model, records, output = tmp_path / "small.txt", tmp_path / "r.sqlite", tmp_path / "small.edgeir"
    save_graph(small_network(6, 8), model)
    options = ("-t", TARGET, "--threads", 1, "--records", records)
    report = json.loads(run("tune", model, *options, "--device", board, "--trials", 12, "--json"))
    assert report["trials"] >= 12
    # Code for aarch64 ran there: it could not run on this machine.
    assert report["measured"] > 0 and report["measured_default"] > 0
    with RecordStore(records) as store:
        found = store.records()
    good = [record for record in found if not record.error]
    assert len(good) >= 10
    assert all(record.context.target["triple"].startswith("aarch64") for record in found)
    assert all(record.minimum and record.yardstick for record in good)
    run("compile", model, *options, "-o", output)
    manifest = json.loads((output / "manifest.json").read_text())
    # Kernels of other pipelines were measured, too, and whole models.
    measured = {record.context.kernel for record in good}
    assert 4 <= len(manifest["tuned_kernels"]) <= len(measured)
    assert verify_on(device_named(f"qemu-aarch64:{TARGET}"), output).passed
    # Nothing that was measured on the board counts for this machine.
    run("compile", model, "-t", "host", "--threads", 1, "--records", records, "-o", tmp_path / "host")
    assert json.loads((tmp_path / "host" / "manifest.json").read_text())["tuned_kernels"] == []


def test_a_candidate_that_crashes_there_costs_its_session_only(board: str) -> None:
    extra = ("tests.tuning.faulty_template:FAULTY",)
    task = next(task for task in tasks(extra, TARGET) if "faulty" in task.spaces)
    faults = ("none", "crash_in_kernel", "wrong", "none")
    with ProcessMeasurer(device=board, extra=extra) as measurer:
        candidates = [Candidate("faulty", {"fault": fault, "number": i}) for i, fault in enumerate(faults)]
        records = measurer.measure(task, candidates)
    assert [record.error for record in records] == ["", "device", "wrong", ""]
