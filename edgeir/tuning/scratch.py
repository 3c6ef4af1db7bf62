"""Temporary folders that do not outlive their process: what a killed one leaves is removed by the next one made.

The owner of a folder holds an advisory lock (flock) on the folder itself, which the system gives up when the process
ends, however it ends. A folder whose lock is free therefore belongs to nobody, whatever became of the process's number.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile

try:
    import fcntl
except ImportError:  # Windows; folders of killed processes stay there.
    fcntl = None

PREFIX = "edgeir-tuning-run-"


class ScratchFolder:
    """A new, empty temporary folder, removed by `cleanup` or when the process ends. A context manager.

    Making one removes those that killed processes of the same user left.

    Attributes:
        name: its path.
    """

    def __init__(self) -> None:
        remove_abandoned()
        while True:
            self._folder = tempfile.TemporaryDirectory(prefix=PREFIX)
            self.name = self._folder.name
            try:
                self._lock = _lock(self.name, wait=True)
            except FileNotFoundError:
                # Another process took it for abandoned before it was locked.
                self._folder.cleanup()
                continue
            return

    def __enter__(self) -> ScratchFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.cleanup()

    def cleanup(self) -> None:
        """Removes the folder and what it holds."""
        self._folder.cleanup()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_abandoned() -> list[str]:
    """Removes the folders of this user's that no living process owns; links are neither followed nor removed.

    Returns:
        The paths of those that were removed.
    """
    removed = []
    if fcntl is None:
        return removed
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        paths = [entry.path for entry in entries if entry.name.startswith(PREFIX) and _is_own_folder(entry)]
        for path in paths:
            with contextlib.suppress(OSError):
                lock = _lock(path, wait=False)
                if lock is None:
                    continue
                try:
                    shutil.rmtree(path)
                    removed.append(path)
                finally:
                    os.close(lock)
    return removed


def _is_own_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == os.getuid()
    except OSError:
        return False


def _lock(path: str, wait: bool) -> int | None:
    """An open descriptor that holds a folder's lock; child processes do not inherit it.

    Returns:
        None where the file system has no locks, or, without `wait`, where another process holds it.

    Raises:
        FileNotFoundError: the folder is gone, or another one has taken its name.
    """
    if fcntl is None:
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    if not _is_at(path, descriptor):
        os.close(descriptor)
        raise FileNotFoundError(path)
    return descriptor


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False
