"""Temporary folders: those of killed processes are removed by the next one, and no others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeir.tuning import scratch
from edgeir.tuning.scratch import PREFIX, ScratchFolder, remove_abandoned

pytest.importorskip("fcntl")
ROOT = Path(__file__).resolve().parents[2]
OWNER = """
import sys, time
from edgeir.tuning.scratch import ScratchFolder
folder = ScratchFolder()
open(folder.name + "/kernel.so", "w").close()
print(folder.name, flush=True)
time.sleep(600)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for temporary folders, of child processes too."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def owner(temporary: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that owns a folder, and the folder."""
    process = subprocess.Popen([sys.executable, "-c", OWNER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process, Path(process.stdout.readline().strip())
    process.kill()
    process.wait()
    process.stdout.close()


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_killed_owner_leaves_a_folder_that_the_next_one_removes(owner: tuple[subprocess.Popen[str], Path]) -> None:
    process, left = owner
    with ScratchFolder() as folder:
        assert (left / "kernel.so").is_file(), "a living process lost its folder"
        kill(process)
        assert left.is_dir()
        with ScratchFolder() as other:
            assert not left.exists()
            assert os.path.isdir(folder.name), "another folder of this process"
            assert os.path.isdir(other.name)
    assert not os.path.exists(folder.name)


def test_a_stopped_owner_keeps_its_folder(owner: tuple[subprocess.Popen[str], Path]) -> None:
    process, folder = owner
    process.send_signal(signal.SIGSTOP)
    try:
        assert remove_abandoned() == []
        assert (folder / "kernel.so").is_file()
    finally:
        process.send_signal(signal.SIGCONT)


def test_an_owner_s_children_do_not_keep_its_folder(temporary: Path) -> None:
    child = "import subprocess\nprint(subprocess.Popen(['sleep', '600']).pid, flush=True)\ntime.sleep"
    text = OWNER.replace("time.sleep", child)
    with subprocess.Popen([sys.executable, "-c", text], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        left, number = process.stdout.readline().strip(), int(process.stdout.readline())
        kill(process)
        try:
            assert remove_abandoned() == [left]
        finally:
            os.kill(number, signal.SIGKILL)


def test_links_are_neither_followed_nor_removed(temporary: Path) -> None:
    outside = temporary / "outside"
    outside.mkdir()
    (outside / "file").touch()
    link = temporary / f"{PREFIX}link"
    link.symlink_to(outside)
    left = temporary / f"{PREFIX}left"
    left.mkdir()
    (left / "inner").symlink_to(outside)
    assert remove_abandoned() == [str(left)]
    assert link.is_symlink() and (outside / "file").is_file()


def test_other_names_and_files_stay(temporary: Path) -> None:
    (temporary / "edgeir-tuning-abc").mkdir()
    (temporary / f"{PREFIX}file").touch()
    assert remove_abandoned() == []
    assert len(list(temporary.iterdir())) == 2


def test_another_user_s_folder_stays(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (temporary / f"{PREFIX}left").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: os.stat(temporary).st_uid + 1)
        assert remove_abandoned() == []
    assert len(remove_abandoned()) == 1


def test_a_folder_that_is_removed_before_it_is_locked_is_made_again(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, seen = scratch._lock, []

    def late(path: str, wait: bool) -> int | None:
        if wait and not seen:
            # Another process looks just now.
            seen.append(path)
            assert remove_abandoned() == [path]
        return lock(path, wait)

    monkeypatch.setattr(scratch, "_lock", late)
    with ScratchFolder() as folder:
        assert seen and folder.name != seen[0]
        assert os.path.isdir(folder.name)
        assert remove_abandoned() == []
