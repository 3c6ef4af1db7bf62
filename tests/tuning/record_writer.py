"""A process that writes records as fast as it can and reports each one only after it was stored."""

from __future__ import annotations

import sys

from edgeir.tuning.context import Context
from edgeir.tuning.record import Record
from edgeir.tuning.records import RecordStore


def context(name: str) -> Context:
    return Context(f"kernel {name}", {"triple": "x"}, 1, {"apache-tvm": "0"}, "")


def record(name: str, number: int) -> Record:
    return Record(context(name), "template", {"n": number}, 2e-3, 1e-3, 2e-3, "", float(number))


def main(path: str, name: str, count: int, batch: int) -> None:
    with RecordStore(path) as store:
        for start in range(0, count, batch):
            store.add([record(name, number) for number in range(start, start + batch)])
            print(start + batch, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
