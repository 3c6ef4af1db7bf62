"""The store of records: several writers, death at any moment, a full disk, and its text form."""

from __future__ import annotations

import json
import multiprocessing
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgeir.errors import EdgeIRError
from edgeir.tuning.context import Context
from edgeir.tuning.record import Record, record_to_line
from edgeir.tuning.records import RecordStore, default_path
from tests.tuning.record_writer import context, record

ROOT = Path(__file__).resolve().parents[2]


def writer(path: Path, name: str, count: int = 1_000_000, batch: int = 3) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.tuning.record_writer", str(path), name, str(count), str(batch)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def integrity(path: Path) -> str:
    database = sqlite3.connect(path)
    try:
        return database.execute("PRAGMA integrity_check").fetchone()[0]
    finally:
        database.close()


def kill_and_check(path: Path, times: int) -> None:
    generator = random.Random(0)
    for turn in range(times):
        process = writer(path, f"turn {turn}")
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(generator.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        reported = [int(line) for line in process.stdout.read().split("\n") if line.strip().isdigit()]
        process.wait()
        finished = max([*reported, 3])
        assert integrity(path) == "ok"
        with RecordStore(path) as store:
            found = {item.config["n"] for item in store.records(context(f"turn {turn}"))}
        assert found >= set(range(finished))
        # What was being written is there as a whole or not at all.
        assert len(found) % 3 == 0


def test_a_killed_writer_loses_nothing_that_was_finished(tmp_path: Path) -> None:
    kill_and_check(tmp_path / "records.sqlite", 10)


@pytest.mark.slow
def test_fifty_killed_writers_lose_nothing_that_was_finished(tmp_path: Path) -> None:
    kill_and_check(tmp_path / "records.sqlite", 50)


def test_two_writers_at_once_lose_nothing_and_mix_nothing_up(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    processes = [writer(path, name, 150, 1) for name in "ab"]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    with RecordStore(path) as store:
        assert store.count() == 300
        for name in "ab":
            found = store.records(context(name))
            assert {item.config["n"] for item in found} == set(range(150))
            assert {item.context.kernel for item in found} == {f"kernel {name}"}


def open_together(path: Path, barrier: Any) -> None:
    barrier.wait()
    RecordStore(path).close()


def test_several_processes_may_make_the_file_at_the_same_moment(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    for number in range(30):
        barrier = fork.Barrier(4)
        processes = [fork.Process(target=open_together, args=(tmp_path / f"{number}", barrier)) for _ in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0] * 4


def test_a_full_disk_is_an_error_and_leaves_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "from tests.tuning.record_writer import main\n"
        "from edgeir.errors import EdgeIRError\n"
        "try: main(sys.argv[1], 'a', 10_000, 20)\n"
        "except EdgeIRError as error: print('refused:', error.what)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert "refused: the records cannot be read or written" in result.stdout, result.stderr
    finished = max(int(line) for line in result.stdout.split("\n") if line.isdigit())
    assert integrity(path) == "ok"
    with RecordStore(path) as store:
        assert {item.config["n"] for item in store.records(context("a"))} >= set(range(finished))
        store.add([record("b", 0)])
        assert store.count(context("b")) == 1
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 200_000


def test_a_record_belongs_to_its_kernel_target_threads_and_versions(tmp_path: Path) -> None:
    base = {"kernel": "k", "target": {"cpu": "a"}, "threads": 1, "versions": {"llvm": "22"}}
    changed = [{"kernel": "j"}, {"target": {"cpu": "b"}}, {"threads": 2}, {"versions": {"llvm": "23"}}]
    with RecordStore(tmp_path / "r.sqlite") as store:
        store.add([Record(Context(**base), "t", {"n": 1}, 1.0, 1.0, 2.0)])
        assert store.best(Context(**base)) is not None
        for change in changed:
            assert store.best(Context(**{**base, **change})) is None


def test_best_goes_by_the_ratio_to_the_default_and_skips_failures(tmp_path: Path) -> None:
    where = context("a")
    rows = [
        Record(where, "t", {"n": 1}, 0.9, 0.9, 1.0, "", 1.0),
        # Slower on the clock, but the machine was slower too.
        Record(where, "t", {"n": 2}, 1.6, 1.6, 2.0, "", 2.0),
        Record(where, "t", {"n": 3}, None, None, 1.0, "crash", 3.0),
        # Once wrong, never trusted.
        Record(where, "t", {"n": 4}, 0.1, 0.1, 1.0, "", 4.0),
        Record(where, "t", {"n": 4}, None, None, 1.0, "wrong", 5.0),
    ]
    with RecordStore(tmp_path / "r.sqlite") as store:
        store.add(rows)
        best = store.best(where)
        assert best is not None
        assert best.config == {"n": 2}


def test_export_and_import_agree_and_import_again_adds_nothing(tmp_path: Path) -> None:
    with RecordStore(tmp_path / "a.sqlite") as first, RecordStore(tmp_path / "b.sqlite") as second:
        first.add([record(name, number) for name in "ab" for number in range(5)])
        lines = list(first.export())
        assert second.import_lines(lines) == 10
        assert list(second.export()) == lines
        assert second.import_lines(lines) == 0


GOOD = json.loads(record_to_line(record("a", 1)))


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        json.dumps({**GOOD, "extra": 1}),
        json.dumps({**GOOD, "format": 9}),
        json.dumps({**GOOD, "config": {"n": [1]}}),
        json.dumps({**GOOD, "config": {"n": 1.5}}),
        json.dumps({**GOOD, "minimum": -1.0}),
        json.dumps({**GOOD, "minimum": None}),
        json.dumps({**GOOD, "minimum": float("nan")}),
        json.dumps({**GOOD, "minimum": True}),
        json.dumps({**GOOD, "error": "surprise"}),
        json.dumps({**GOOD, "context": {**GOOD["context"], "threads": 0}}),
        json.dumps({**GOOD, "context": {**GOOD["context"], "versions": {"llvm": 1}}}),
        json.dumps({key: value for key, value in GOOD.items() if key != "template"}),
        "[" * 100_000,
    ],
)
def test_a_damaged_line_is_refused_with_its_number_and_nothing_is_imported(line: str, tmp_path: Path) -> None:
    with RecordStore(tmp_path / "r.sqlite") as store:
        with pytest.raises(EdgeIRError, match="line 2"):
            store.import_lines([json.dumps(GOOD), line])
        assert store.count() == 0


def test_prune(tmp_path: Path) -> None:
    other = Context("k", {}, 1, {"apache-tvm": "other"})
    with RecordStore(tmp_path / "r.sqlite") as store:
        store.add([record("a", number) for number in range(5)])
        store.add(
            [Record(context("a"), "t", {"n": 9}, None, None, None, "crash", 1.0), Record(other, "t", {}, 1, 1, 1)]
        )
        assert store.prune(versions={"apache-tvm": "0"}) == 1
        assert store.prune(failures=True) == 1
        assert store.prune(keep=2) == 3
        assert store.count() == 2
        assert len(store.contexts()) == 1


@pytest.mark.parametrize("content", [b"not a database, but long enough to be read as one" * 40, None])
def test_a_file_that_is_no_store_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    if content is not None:
        path.write_bytes(content)
    else:
        database = sqlite3.connect(path)
        database.execute("CREATE TABLE other (x)")
        database.close()
    with pytest.raises(EdgeIRError, match=r"r\.sqlite"):
        RecordStore(path)


def test_the_file_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEIR_RECORDS", str(tmp_path / "x.sqlite"))
    assert default_path() == tmp_path / "x.sqlite"
    monkeypatch.delenv("EDGEIR_RECORDS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "edgeir" / "records.sqlite"
