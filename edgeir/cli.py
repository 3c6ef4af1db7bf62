"""The `edgeir` command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from edgeir.commands.compress import register as register_compress
from edgeir.commands.prune import register as register_prune
from edgeir.commands.quantize import register as register_quantize
from edgeir.commands.shapes import ShapeOption, parse_shapes
from edgeir.errors import EdgeIRError
from edgeir.tuning_cli import RecordsOption, register

CHECK_FAILED, BAD_INPUT = 1, 2

app = typer.Typer(
    help="Compile trained networks into small, fast programs for edge devices.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_out = Console()
_err = Console(stderr=True)

OnOption = Annotated[
    str | None,
    typer.Option(
        "--on",
        help="Another device: qemu-aarch64[:CPU], an emulated device's folder, rpc://HOST:PORT/KEY, "
        "or tracker://HOST:PORT/KEY.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@app.command("compile")
def compile_command(
    model: Annotated[Path, typer.Argument(help="ONNX file or IR text.")],
    target: Annotated[
        str, typer.Option("--target", "-t", help="Preset, LLVM triple with +features, or host.")
    ] = "host",
    output: Annotated[Path, typer.Option("--output", "-o", help="Artifact folder to write.")] = Path("model.edgeir"),
    shape: ShapeOption = None,
    passes: Annotated[str | None, typer.Option(help="Pipeline text instead of the default pipeline.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads to generate code for.")] = None,
    emit: Annotated[
        str, typer.Option(help="library (an artifact, linked), object (object files, not linked) or c (C source).")
    ] = "library",
    records: RecordsOption = None,
    untuned: Annotated[bool, typer.Option("--untuned", help="Use default schedules, whatever was measured.")] = False,
    timing: Annotated[bool, typer.Option(help="Show the seconds of each stage.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compile a model for a target into an artifact folder."""
    from edgeir.compiler import compile, prepare
    from edgeir.emit import EMITTERS

    if emit != "library" and emit not in EMITTERS:
        raise EdgeIRError("no such form", where="--emit", expected=f"library, {', '.join(EMITTERS)}", got=emit)

    seconds: dict[str, float] = {}
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=_err, transient=True) as progress:
        task = progress.add_task("starting", total=None)

        def on_stage(name: str, elapsed: float | None) -> None:
            progress.update(task, description=name)
            if elapsed is not None:
                seconds[name] = elapsed

        shapes = parse_shapes(shape)
        if emit == "library":
            artifact = compile(
                *(model, target, shapes, passes, threads, output),
                on_stage=on_stage,
                records=records,
                tuned=not untuned,
            )
            manifest = artifact.manifest
        else:
            cores = 1 if emit == "c" else threads
            compilation = prepare(
                *(model, target, shapes, passes, cores), on_stage=on_stage, records=records, tuned=not untuned
            )
            manifest = compilation.manifest
            EMITTERS[emit](compilation, output)
    if as_json:
        _print_json({"artifact": str(output), "seconds": seconds, "manifest": manifest.to_dict()})
        return
    _say(f"{output}: {manifest.name} for {manifest.target.name}")
    code = f"code {_bytes(manifest.code_bytes)}, " if manifest.code_bytes else ""
    _say(
        f"  {code}constants {_bytes(manifest.constant_bytes)}, "
        f"peak activations {_bytes(manifest.peak_memory_bytes)}, {manifest.macs / 1e6:.1f} M multiply-accumulates"
    )
    if manifest.untuned_kernels:
        kernels = len(manifest.untuned_kernels) + len(manifest.tuned_kernels)
        _say(f"  {len(manifest.untuned_kernels)} of {kernels} tunable kernels have no records for this target")
    if timing:
        table = Table("stage", "seconds")
        for name, elapsed in seconds.items():
            table.add_row(name, f"{elapsed:.2f}")
        table.add_row("total", f"{sum(seconds.values()):.2f}")
        _out.print(table)


@app.command()
def run(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder.")],
    inputs: Annotated[Path, typer.Option(help="NPZ file with an array for each input, by name.")],
    outputs: Annotated[Path, typer.Option(help="NPZ file to write, with an array for each output.")],
    threads: Annotated[int | None, typer.Option(min=1, help="Threads to run with.")] = None,
    on: OnOption = None,
) -> None:
    """Run an artifact on arrays from a file."""
    from edgeir.runtime import Artifact, Session

    if on is None:
        results = Session(artifact, threads).run(load_arrays(inputs))
    else:
        from edgeir.devices import device_named

        results = device_named(on).run(Artifact.load(artifact), load_arrays(inputs), threads)
    with outputs.open("wb") as file:
        np.savez(file, allow_pickle=False, **results)  # pyright: ignore[reportArgumentType]
    for name, array in results.items():
        _say(f"{name}: {array.dtype}{list(array.shape)} → {outputs}")


@app.command()
def verify(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder.")],
    threads: Annotated[int | None, typer.Option(min=1, help="Threads to run with.")] = None,
    tolerance: Annotated[float | None, typer.Option(help="Largest error relative to an output's range.")] = None,
    on: OnOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run an artifact on its golden inputs and compare with its golden outputs."""
    from edgeir.runtime import verify as verify_artifact

    if on is None:
        report = verify_artifact(artifact, threads, tolerance)
    else:
        from edgeir.devices import device_named, verify_on

        report = verify_on(device_named(on), artifact, threads, tolerance)
    if as_json:
        rows = [
            {"name": o.name, "relative_error": o.relative_error, "tolerance": o.tolerance, "passed": o.passed}
            for o in report.outputs
        ]
        _print_json({"passed": report.passed, "outputs": rows})
    else:
        _say(str(report))
    if not report.passed:
        raise typer.Exit(CHECK_FAILED)


@app.command()
def inspect(
    model: Annotated[Path, typer.Argument(help="ONNX file, IR text, or artifact folder.")],
    shape: ShapeOption = None,
    cost: Annotated[bool, typer.Option(help="Add an estimate of energy, and predicted cycles of hot loops.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a model holds and costs: operators, sizes, multiply-accumulates, memory."""
    from edgeir.commands.cost import artifact_cost, graph_cost
    from edgeir.commands.inspect import inspect_artifact, inspect_graph
    from edgeir.compiler import load_model

    shapes = parse_shapes(shape)
    if model.is_dir():
        report = inspect_artifact(model) | (artifact_cost(model) if cost else {})
    else:
        graph = load_model(model, shapes)
        report = inspect_graph(graph) | (graph_cost(graph) if cost else {})
    if as_json:
        _print_json(report)
        return
    for key, value in report.items():
        if isinstance(value, dict) and value:
            table = Table(key, "")
            for name, item in value.items():
                table.add_row(str(name), str(item))
            _out.print(table)
        elif isinstance(value, list):
            _say(f"{key}:")
            for item in value:
                _say(f"  {item}")
        else:
            shown = _bytes(value) if key.endswith("bytes") and isinstance(value, int) else value
            _say(f"{key}: {shown}")


@app.command()
def opt(
    model: Annotated[Path, typer.Argument(help="ONNX file or IR text.")],
    passes: Annotated[str, typer.Option(help="Pipeline text, such as canonicalize,dead-code.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write the IR text; else printed.")
    ] = None,
    shape: ShapeOption = None,
    target: Annotated[str, typer.Option("--target", "-t", help="Target that the passes see.")] = "host",
    stop_after: Annotated[int | None, typer.Option(min=0, help="Stop after this many rewrites.")] = None,
    dump: Annotated[Path | None, typer.Option(help="Folder for the IR after every pass.")] = None,
    timing: Annotated[bool, typer.Option(help="Show each pass: seconds, rewrites, nodes.")] = False,
    check: Annotated[bool, typer.Option(help="Compare outputs with the original's after each pass.")] = False,
) -> None:
    """Run passes over a model and write the IR as text."""
    from edgeir.commands.optimize import optimize
    from edgeir.compiler import load_model
    from edgeir.ir import save_graph

    graph = load_model(model, parse_shapes(shape))
    report = optimize(graph, passes, target=target, stop_after=stop_after, dump=dump, check=check)
    if timing or check:
        _err.print(report.table)
    if output is None:
        sys.stdout.write(f"{graph}\n")
    else:
        save_graph(graph, output)
    if not report.passed:
        _err.print(report.verdict, highlight=False)
        raise typer.Exit(CHECK_FAILED)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="ONNX file or IR text.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="ONNX file to write.")],
    shape: ShapeOption = None,
    passes: Annotated[
        str | None, typer.Option(help='Pipeline text instead of the simplification pipeline; "" for none.')
    ] = None,
    format: Annotated[str, typer.Option(help="float, or qdq for quantized graphs.")] = "float",
) -> None:
    """Write a model as standard ONNX, after passes."""
    from edgeir.commands.export import export_onnx

    line = export_onnx(model, output, parse_shapes(shape), passes, format)
    _out.print(line, highlight=False, markup=False, soft_wrap=True)


@app.command()
def passes(as_json: JsonOption = False) -> None:
    """List the passes and their options."""
    from edgeir.commands.listing import pass_rows

    rows = pass_rows()
    if as_json:
        _print_json(rows)
        return
    table = Table("pass", "options", "what it does")
    for row in rows:
        table.add_row(row["name"], row["options"], row["summary"])
    _out.print(table)


@app.command()
def targets(as_json: JsonOption = False) -> None:
    """List the target presets."""
    from edgeir.commands.listing import target_rows

    rows = target_rows()
    if as_json:
        _print_json(rows)
        return
    table = Table("target", "triple", "cpu", "features", "SIMD bits", "GPU")
    for row in rows:
        table.add_row(
            row["name"], row["triple"], row["cpu"], " ".join(row["features"]), str(row["vector_bits"]), row["gpu"] or ""
        )
    _out.print(table)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an NPZ file, by name.

    Raises:
        EdgeIRError: the file is absent, damaged, or holds anything but plain arrays.
    """
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise EdgeIRError("not an NPZ file", where=str(path), expected="arrays saved with numpy.savez")
        with archive:
            return {name: archive[name] for name in archive.files}
    except EdgeIRError:
        raise
    except Exception as error:  # zipfile, zlib and numpy each raise types of their own.
        raise EdgeIRError(
            "cannot read arrays", where=str(path), expected="arrays saved with numpy.savez", got=str(error)
        ) from None


def _say(text: str) -> None:
    _out.print(text, highlight=False, markup=False, soft_wrap=True)


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


device_app = typer.Typer(help="Devices other than this machine.", no_args_is_help=True)
app.add_typer(device_app, name="device")


@device_app.command()
def emulate(
    architecture: Annotated[str, typer.Argument(help="Only aarch64 so far.")] = "aarch64",
    folder: Annotated[Path | None, typer.Option(help="The device's folder; else in the user's cache.")] = None,
    install: Annotated[bool, typer.Option("--install", help="Install missing Debian packages.")] = False,
) -> None:
    """Set up an emulated device on which artifacts run with --on qemu-aarch64."""
    from edgeir.devices import set_up

    if architecture != "aarch64":
        raise EdgeIRError("no such device can be emulated", expected="aarch64", got=architecture)
    _say(f"{set_up(folder, install=install)}: ready")


register(app, device_app)
register_compress(app)
register_prune(app)
register_quantize(app)


def main() -> None:
    """Run the command line. Bad input ends with one message and exit code 2, without a traceback."""
    try:
        app()
    except EdgeIRError as error:
        _err.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        raise SystemExit(BAD_INPUT) from None
    except OSError as error:
        _err.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        raise SystemExit(BAD_INPUT) from None


if __name__ == "__main__":
    main()
