"""`edgeir compress`: a compression recipe from the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

_out = Console()
_err = Console(stderr=True)


def compress(
    recipe: Annotated[Path, typer.Argument(help="TOML file: model, data, stages.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of stages, artifact and report; else RECIPE.work.")
    ] = None,
    latency: Annotated[bool, typer.Option(help="Time each stage's graph, compiled for this machine.")] = True,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads that training uses.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Prune, fine-tune, distill, quantize and compile as a recipe says; started again, it goes on where it stood."""
    import edgeir.training  # says what to install where torch is missing  # noqa: F401
    from edgeir.compress import compress_file

    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    folder = output if output is not None else recipe.with_suffix(".work")
    report = compress_file(
        *(recipe, folder),
        latency=latency,
        progress=not as_json,
        on_stage=lambda name: _err.print(f"{name} …", highlight=False, markup=False),
    )
    if as_json:
        sys.stdout.write(json.dumps(report.to_dict(), indent=2) + "\n")
        return
    metrics = list(report.stages[0].metrics)
    table = Table("stage", *metrics, "parameters", "nonzero", "KiB", "code KiB", "M MACs", "ms", "seconds")
    for stage in report.stages:
        share = f"{stage.nonzero / stage.parameters:.0%}" if stage.parameters else ""
        table.add_row(
            stage.name,
            *(f"{stage.metrics[name]:.4f}" if name in stage.metrics else "" for name in metrics),
            *(str(stage.parameters or ""), share, f"{stage.bytes / 1024:.1f}"),
            *(f"{stage.code_bytes / 1024:.1f}" if stage.code_bytes else "", f"{stage.macs / 1e6:.2f}"),
            *("" if stage.latency is None else f"{1e3 * stage.latency:.3f}", f"{stage.seconds:.1f}"),
        )
    _out.print(table)
    for note in report.notes:
        _out.print(note, highlight=False, markup=False, soft_wrap=True)
    if report.artifact is not None:
        _out.print(report.artifact, highlight=False, markup=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(compress)
