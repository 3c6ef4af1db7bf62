"""The commands `edgeir tune`, `edgeir records …` and those of `edgeir device …` that reach devices over RPC."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from edgeir.commands.shapes import parse_shapes
from edgeir.errors import EdgeIRError

if TYPE_CHECKING:
    from edgeir.tuning.tuner import Progress, Tuner

_out = Console()
_err = Console(stderr=True)
SHOWN = 15

RecordsOption = Annotated[
    Path | None, typer.Option("--records", help="File of records; else EDGEIR_RECORDS, else in the user's cache.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
HostOption = Annotated[str, typer.Option(help="Address to listen on; others reach this machine if not loopback.")]

records_app = typer.Typer(help="Measurements that tuning made.", no_args_is_help=True)


def tune(
    model: Annotated[Path, typer.Argument(help="ONNX file or IR text; an artifact does not hold its model.")],
    target: Annotated[
        str, typer.Option("--target", "-t", help="Preset, LLVM triple with +features, or host.")
    ] = "host",
    shape: Annotated[list[str] | None, typer.Option("--shape", help="NAME=1,3,320,320 (repeat for several).")] = None,
    passes: Annotated[str | None, typer.Option(help="Pipeline text instead of the default pipeline.")] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Measurements in the records, earlier runs included.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0.0, help="Time for this run.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads that kernels use.")] = 1,
    device: Annotated[
        str, typer.Option(help="local, a server (rpc://HOST:PORT or rpc://HOST:PORT/KEY), or tracker://HOST:PORT/KEY.")
    ] = "local",
    devices: Annotated[int, typer.Option(min=1, help="Devices of a tracker to use at the same time.")] = 1,
    records: RecordsOption = None,
    seed: Annotated[int, typer.Option(help="Of the search.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Find fast configurations for a model's kernels by measuring them."""
    from edgeir.commands.tune import TuneOptions, tune

    options = TuneOptions(
        *(model, target, parse_shapes(shape), passes, trials, minutes, threads, device, records, seed),
        runners=devices,
    )
    started = time.monotonic()

    def left() -> str:
        """What is left of the limits."""
        seconds = None if minutes is None else max(0.0, 60 * minutes - (time.monotonic() - started))
        count = None if trials is None else max(0, trials - running[0].trials)
        parts = [None if count is None else f"{count} trials", None if seconds is None else clock(seconds)]
        return " and ".join(part for part in parts if part) + " left"

    with Live(console=_err, refresh_per_second=4, transient=as_json) as live:
        running: list[Tuner] = []
        report = tune(options, running.append, lambda _: live.update(progress_table(running[0], left())))
    if as_json:
        sys.stdout.write(json.dumps(dataclasses.asdict(report), indent=2) + "\n")
        return
    _say(f"{report.trials} trials; kernels {_ms(report.predicted_default)} → {_ms(report.predicted)} predicted")
    gain = 1 - report.measured / report.measured_default
    _say(f"whole model {_ms(report.measured_default)} → {_ms(report.measured)} measured (gain {gain:.1%})")
    _say(f"passes: {report.passes}")


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def progress_table(tuner: Tuner, left: str = "") -> Table:
    """The kernels that take the most time: best so far, gain, trials, what is still expected; what is left below."""
    table = Table("kernel", "calls", "share", "best", "gain", "trials", "failed", "expected", title="tuning")
    total = tuner.seconds or 1.0
    ranked: list[Progress] = sorted(tuner.progress, key=lambda item: -item.seconds)
    for item in ranked[:SHOWN]:
        seconds = (item.default_seconds or 0.0) * item.search.best_ratio
        table.add_row(
            *(item.task.name, str(item.task.count), f"{item.seconds / total:.1%}", f"{1e6 * seconds:.1f} µs"),
            *(f"{1 - item.search.best_ratio:.1%}", f"{item.trials}/{item.task.size}", str(item.failures)),
            "done" if item.search.exhausted else f"{1e6 * item.expected_gain:.1f} µs",
        )
    if len(ranked) > SHOWN:
        table.add_row(f"{len(ranked) - SHOWN} more", *[""] * 7)
    table.caption = f"{tuner.trials} trials, {_ms(tuner.default_seconds)} → {_ms(tuner.seconds)}"
    if left:
        table.caption += f", {left}"
    return table


@records_app.command()
def count(records: RecordsOption = None) -> None:
    """Print how many records there are."""
    with _store(records) as store:
        _say(str(store.count()))


@records_app.command("list")
def list_records(records: RecordsOption = None, as_json: JsonOption = False) -> None:
    """List the kernels that have records, and what the best one gains."""
    rows = []
    with _store(records) as store:
        for context, number in store.contexts():
            best = store.best(context)
            rows.append(
                {
                    "context": context.hash[:12],
                    "kernel": "+".join(context.operators)[:40],
                    "triple": str(context.target.get("triple", "")),
                    "threads": context.threads,
                    "records": number,
                    "ratio": None if best is None else best.ratio,
                    "template": "" if best is None else best.template,
                    "config": {} if best is None else dict(best.config),
                }
            )
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    table = Table("context", "kernel", "triple", "threads", "records", "gain", "template", "configuration")
    for row in rows:
        config = " ".join(f"{key}={value}" for key, value in row["config"].items())
        gain = "" if row["ratio"] is None else f"{1 - row['ratio']:.1%}"
        fixed = (row["context"], row["kernel"], row["triple"], str(row["threads"]), str(row["records"]))
        table.add_row(*fixed, gain, row["template"], config)
    _out.print(table)


@records_app.command("export")
def export_records(
    output: Annotated[Path, typer.Argument(help="File to write, a line of JSON for each record.")],
    records: RecordsOption = None,
) -> None:
    """Write all records as lines of JSON."""
    with _store(records) as store, output.open("w", encoding="utf-8") as file:
        written = 0
        for line in store.export():
            file.write(line + "\n")
            written += 1
    _say(f"{output}: {written} records")


@records_app.command("import")
def import_records(
    source: Annotated[Path, typer.Argument(help="File that export wrote.")], records: RecordsOption = None
) -> None:
    """Add records from lines of JSON; all of them or, if one is damaged, none."""
    try:
        text = source.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise EdgeIRError("not a file of records", where=str(source), got=str(error)) from None
    with _store(records) as store:
        added = store.import_lines(text.splitlines(), str(source))
    _say(f"{added} new records")


@records_app.command()
def prune(
    other_versions: Annotated[bool, typer.Option("--other-versions", help="Delete those of other compilers.")] = False,
    failures: Annotated[bool, typer.Option("--failures", help="Delete failed candidates.")] = False,
    keep: Annotated[int | None, typer.Option(min=1, help="Keep only the fastest of each kernel.")] = None,
    records: RecordsOption = None,
) -> None:
    """Delete records."""
    from edgeir.tuning.versions import compiler_versions

    with _store(records) as store:
        deleted = store.prune(compiler_versions() if other_versions else None, failures, keep)
    _say(f"{deleted} records deleted")


def serve(
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65000, help="First port to try.")] = 9090,
    key: Annotated[str, typer.Option(help="What the device is called at the tracker.")] = "",
    tracker: Annotated[str | None, typer.Option(help="HOST:PORT of a tracker to register at.")] = None,
) -> None:
    """Serve this machine as a device over TVM's RPC, until interrupted."""
    from edgeir.commands.devices import start_server

    _run_server(
        lambda: start_server(host, port, key, tracker), host, "device at rpc://{address}" + f"/{key}" * bool(key)
    )


def tracker(
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65000, help="First port to try.")] = 9190,
) -> None:
    """Run a tracker, at which devices register, until interrupted."""
    from edgeir.commands.devices import start_tracker

    _run_server(lambda: start_tracker(host, port), host, "tracker at {address}")


def list_devices(
    tracker: Annotated[str, typer.Argument(help="HOST:PORT of the tracker.")] = "127.0.0.1:9190",
    as_json: JsonOption = False,
) -> None:
    """List the devices of a tracker."""
    from edgeir.commands.devices import tracker_rows

    rows = tracker_rows(tracker)
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    table = Table("key", "devices", "free", "waiting")
    for row in rows:
        table.add_row(row["key"], str(row["devices"]), str(row["free"]), str(row["waiting"]))
    _out.print(table)


def register(app: typer.Typer, device_app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    app.command("tune")(tune)
    app.add_typer(records_app, name="records")
    device_app.command("serve")(serve)
    device_app.command("tracker")(tracker)
    device_app.command("list")(list_devices)


def _run_server(start: Callable[[], Any], host: str, text: str) -> None:
    from edgeir.commands.devices import serve_forever, warning

    server = start()
    if danger := warning(host, server.port):
        _err.print(f"warning: {danger}", style="yellow", markup=False, soft_wrap=True)
    _say(text.format(address=f"{host}:{server.port}"))
    sys.stdout.flush()
    serve_forever(server)


def _store(path: Path | None) -> Any:
    from edgeir.tuning.records import RecordStore

    return RecordStore(path)


def _say(text: str) -> None:
    _out.print(text, highlight=False, markup=False, soft_wrap=True)


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3f} ms"
