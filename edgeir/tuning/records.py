"""The store of measurements: one SQLite file that several processes may write at once.

Every batch is one transaction in write-ahead mode: a process that is killed loses at most the batch it is writing, and
readers never wait. A measurement is stored under the hash of what it belongs to, so that it cannot meet another kernel.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from edgeir.errors import EdgeIRError
from edgeir.tuning.context import Context
from edgeir.tuning.record import NEVER_TRUSTED, Record, config_from, config_text, record_from_line, record_to_line

APPLICATION_ID = 0x45646749
SCHEMA_VERSION = 1
BUSY_SECONDS = 60.0

_SCHEMA = """
CREATE TABLE contexts (
    hash TEXT PRIMARY KEY, kernel TEXT NOT NULL, problem TEXT NOT NULL, target TEXT NOT NULL, threads INTEGER NOT NULL,
    versions TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE records (
    id INTEGER PRIMARY KEY, context TEXT NOT NULL REFERENCES contexts (hash), template TEXT NOT NULL,
    config TEXT NOT NULL, median REAL, minimum REAL, yardstick REAL, error TEXT NOT NULL, time REAL NOT NULL,
    UNIQUE (context, template, config, time)
);
"""


def default_path() -> Path:
    """`EDGEIR_RECORDS`, else `edgeir/records.sqlite` in the user's cache folder."""
    if named := os.environ.get("EDGEIR_RECORDS"):
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "edgeir" / "records.sqlite"


class RecordStore:
    """Records in a file, which is made if it does not exist. A context manager.

    Raises:
        EdgeIRError: by any method, where the file cannot be read or written, is no store, or the disk is full.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = default_path() if path is None else Path(path)
        with self._errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            with self._errors():
                self._prepare()
        except BaseException:
            self._database.close()
            raise

    def _prepare(self) -> None:
        self._write_ahead()
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("PRAGMA foreign_keys = ON")
        if self._identity() == (0, 0):
            with self._transaction():
                # Another process may have made the tables meanwhile.
                if self._identity() == (0, 0):
                    if self._database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                        raise EdgeIRError("not a store of records", where=str(self.path), got="another database")
                    for statement in _SCHEMA.split(";")[:-1]:
                        self._database.execute(statement)
                    self._database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    self._database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        if self._identity() != (APPLICATION_ID, SCHEMA_VERSION):
            raise EdgeIRError(
                "not a store of records that this version reads",
                where=str(self.path),
                expected=f"version {SCHEMA_VERSION}",
                got=f"version {self._identity()[1]}",
                hint="choose another file with --records",
            )

    def _write_ahead(self) -> None:
        """Switches to write-ahead mode; SQLite itself does not wait while another process does the same."""
        end = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._database.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
            time.sleep(0.01)

    def _identity(self) -> tuple[int, int]:
        names = ("application_id", "user_version")
        application, version = (self._database.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
        return application, version

    def __enter__(self) -> RecordStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise EdgeIRError(
                "the records cannot be read or written",
                where=str(self.path),
                got=str(error),
                hint="is the disk full, the file damaged, or the folder read-only? --records chooses another file",
            ) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def add(self, records: Iterable[Record]) -> int:
        """Stores records, all or none; returns how many were new."""
        with self._errors(), self._transaction():
            before = self._database.total_changes
            contexts = 0
            for record in records:
                context = record.context
                row = (
                    context.hash, context.kernel, context.problem, json.dumps(context.target, sort_keys=True),
                    context.threads, json.dumps(context.versions, sort_keys=True),
                )  # fmt: skip
                sql = "INSERT OR IGNORE INTO contexts VALUES (?, ?, ?, ?, ?, ?)"
                contexts += self._database.execute(sql, row).rowcount
                self._database.execute(
                    "INSERT OR IGNORE INTO records (context, template, config, median, minimum, yardstick, error, time)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        context.hash, record.template, config_text(record.config), record.median, record.minimum,
                        record.yardstick, record.error, record.time,
                    ),
                )  # fmt: skip
            return self._database.total_changes - before - contexts

    def count(self, context: Context | None = None) -> int:
        """How many records there are, in all or of one context."""
        sql, values = "SELECT count(*) FROM records", ()
        if context is not None:
            sql, values = sql + " WHERE context = ?", (context.hash,)
        with self._errors():
            return self._database.execute(sql, values).fetchone()[0]

    def contexts(self) -> list[tuple[Context, int]]:
        """Every context with the number of its records."""
        with self._errors():
            rows = self._database.execute(
                "SELECT c.*, (SELECT count(*) FROM records r WHERE r.context = c.hash) FROM contexts c ORDER BY c.hash"
            ).fetchall()
        return [(self._context(row), row[6]) for row in rows]

    def _context(self, row: Sequence[Any]) -> Context:
        where = f"{self.path}, context {row[0][:12]}"
        context = Context(row[1], _loaded(row[3], where), row[4], _loaded(row[5], where), row[2])
        if context.hash != row[0]:
            raise EdgeIRError("a context was changed after it was written", where=where)
        return context

    def records(self, context: Context | None = None) -> list[Record]:
        """The records, oldest first, of one context or of all."""
        known = {item.hash: item for item, _ in self.contexts()} if context is None else {context.hash: context}
        sql = "SELECT context, template, config, median, minimum, yardstick, error, time FROM records"
        values: tuple[str, ...] = ()
        if context is not None:
            sql, values = sql + " WHERE context = ?", (context.hash,)
        with self._errors():
            rows = self._database.execute(f"{sql} ORDER BY id", values).fetchall()
        return [
            Record(known[row[0]], row[1], config_from(_loaded(row[2], str(self.path)), str(self.path)), *row[3:])
            for row in rows
            if row[0] in known
        ]

    def best(self, context: Context) -> Record | None:
        """The record of the configuration with the least seconds relative to the default's; None if none is faster."""
        ranked = ranking(self.records(context))
        return ranked[0] if ranked and ranked[0].ratio < 1 else None

    def export(self) -> Iterator[str]:
        """All records as lines of JSON."""
        return map(record_to_line, self.records())

    def import_lines(self, lines: Iterable[str], name: str = "import") -> int:
        """Adds records from lines of JSON, all or none; returns how many were new.

        Raises:
            EdgeIRError: a line is damaged; the message has its number.
        """
        return self.add(
            [record_from_line(line, f"{name}, line {i}") for i, line in enumerate(lines, 1) if line.strip()]
        )

    def prune(self, versions: Mapping[str, str] | None = None, failures: bool = False, keep: int | None = None) -> int:
        """Deletes records; returns how many.

        Args:
            versions: delete what other compiler versions generated.
            failures: delete failed candidates.
            keep: keep only this many of each context, the fastest (and no failures).
        """
        drop: list[tuple[str]] = []
        if versions is not None:
            drop = [(item.hash,) for item, _ in self.contexts() if dict(item.versions) != dict(versions)]
        with self._errors(), self._transaction():
            before = self._database.total_changes
            self._database.executemany("DELETE FROM records WHERE context = ?", drop)
            if failures:
                self._database.execute("DELETE FROM records WHERE error <> ''")
            if keep is not None:
                self._database.execute(
                    "DELETE FROM records WHERE error <> '' OR id NOT IN (SELECT id FROM (SELECT id, row_number() OVER"
                    " (PARTITION BY context ORDER BY minimum / coalesce(yardstick, 1e-9), id) AS place FROM records"
                    " WHERE error = '') WHERE place <= ?)",
                    (keep,),
                )
            deleted = self._database.total_changes - before
            self._database.execute("DELETE FROM contexts WHERE hash NOT IN (SELECT context FROM records)")
        with self._errors():
            self._database.execute("VACUUM")
        return deleted


def ranking(records: Sequence[Record]) -> list[Record]:
    """One record for each configuration that never failed, fastest first by the median of its ratios."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.template, config_text(record.config)), []).append(record)
    ranked = []
    for group in groups.values():
        if any(record.error in NEVER_TRUSTED for record in group):
            continue
        group = [record for record in group if record.ratio < float("inf")]
        if group:
            middle = median(record.ratio for record in group)
            ranked.append((middle, min(group, key=lambda record: abs(record.ratio - middle))))
    return [record for _, record in sorted(ranked, key=lambda pair: pair[0])]


def _loaded(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError) as error:
        raise EdgeIRError("a record is damaged", where=where, got=str(error)) from None
