"""`kill -9` of a tuning run at random moments: nothing that was stored is lost, and the next run goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeir.tuning.records import RecordStore
from edgeir.tuning.scratch import PREFIX
from edgeir.tuning.tuner import BATCH
from tests.tuning.test_records import integrity

ROOT = Path(__file__).resolve().parents[2]
ENDLESS = 1_000_000


def tuning(path: Path, trials: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.tuning.killed_run", str(path), str(trials)]
    # A killed run leaves its scratch folder, which the test's folder shall hold.
    environment = {**os.environ, "TMPDIR": str(path.parent)}
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment)


def kill_and_go_on(path: Path, times: int) -> None:
    """Kills runs while they start, and while they measure; then lets one end."""
    generator = random.Random(0)
    reported: set[float] = set()
    measuring = 0
    for number in range(times):
        process = tuning(path, ENDLESS)
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        assert lines == ["started\n"]
        if number % 3:
            # However slow the machine is, most of them die while they measure.
            lines.append(process.stdout.readline())
        time.sleep(generator.uniform(0, 1))
        assert process.poll() is None, "the run ended by itself"
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines(keepends=True)
        process.wait()
        # The last line may be torn.
        stored = {float(line.split()[1]) for line in lines if line.startswith("stored ") and line.endswith("\n")}
        measuring += bool(stored)
        reported |= stored
        assert integrity(path) == "ok"
        with RecordStore(path) as store:
            assert {record.time for record in store.records()} >= reported
        # Each run removes what the one before left.
        assert len(list(path.parent.glob(f"{PREFIX}*"))) == 1
    assert measuring >= times // 2
    with RecordStore(path) as store:
        before = store.count()
    assert before >= len(reported) > 0
    goal = before + 10
    last = tuning(path, goal)
    last.communicate(timeout=300)
    assert last.returncode == 0
    assert list(path.parent.glob(f"{PREFIX}*")) == []
    with RecordStore(path) as store:
        assert goal <= store.count() <= goal + BATCH


@pytest.mark.skipif(sys.platform != "linux", reason="workers end with their parent on Linux only")
def test_a_run_killed_three_times_goes_on(tmp_path: Path) -> None:
    kill_and_go_on(tmp_path / "r.sqlite", 3)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="workers end with their parent on Linux only")
def test_a_run_killed_fifty_times_goes_on(tmp_path: Path) -> None:
    kill_and_go_on(tmp_path / "r.sqlite", 50)
