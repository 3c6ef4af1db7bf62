"""A process that tunes a small network, and reports each measurement only after it was stored."""

from __future__ import annotations

import sys

from edgeir.tuning.worker import import_tvm


def main(path: str, trials: int) -> None:
    """Tunes until the records hold `trials`."""
    import_tvm()
    from edgeir.tuning.measure import ProcessMeasurer
    from edgeir.tuning.records import RecordStore
    from edgeir.tuning.tuner import Tuner
    from tests.tuning.test_measure import tasks

    class ReportingStore(RecordStore):
        def add(self, records) -> int:
            records = list(records)
            added = super().add(records)
            for record in records:
                print(f"stored {record.time!r}", flush=True)
            return added

    with ReportingStore(path) as store, ProcessMeasurer() as measurer:
        tuner = Tuner(tasks(), store, measurer)
        print("started", flush=True)
        tuner.run(trials=trials)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
