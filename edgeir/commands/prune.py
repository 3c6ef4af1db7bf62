"""The command `prune`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from edgeir.commands.shapes import ShapeOption, parse_shapes

if TYPE_CHECKING:
    from edgeir.passes.pruning.report import LayerCost
    from edgeir.prune import PruningResult

SHOWN_REASONS = 8

_out = Console()


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(prune)


def prune(
    model: Annotated[Path, typer.Argument(help="ONNX file or IR text.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="ONNX file to write, or IR text (.edgeir).")],
    score: Annotated[str, typer.Option(help="l1, l2, weighted, activation, gradient or taylor.")] = "l1",
    ratio: Annotated[float | None, typer.Option(help="Share to remove, between 0 and 1; 0.5 by default.")] = None,
    granularity: Annotated[str, typer.Option(help="channel, weight, block, or N:M such as 2:4.")] = "channel",
    threshold: Annotated[float | None, typer.Option(help="Remove what scores below, instead of a ratio.")] = None,
    scope: Annotated[
        str | None, typer.Option(help="uniform (every layer alike), global (by score) or adaptive (weights, by share).")
    ] = None,
    target_macs: Annotated[str | None, typer.Option(help="Multiply-accumulates to leave: 0.5x.")] = None,
    target_latency: Annotated[str | None, typer.Option(help="Time to leave: 0.6x.")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Time layers here instead of estimating them.")] = False,
    calibration: Annotated[
        Path | None, typer.Option(help="Samples: .npz, .npy, or a folder of such files or of pictures.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="For gradient and taylor: .npy file with the target of every sample.")
    ] = None,
    loss: Annotated[str, typer.Option(help="For gradient and taylor: the loss, as in training.")] = "cross-entropy",
    target: Annotated[str, typer.Option("--target", "-t", help="Target whose vectors channels shall fill.")] = "host",
    round_to: Annotated[int | None, typer.Option(help="Multiples of channels, instead of the target's lanes.")] = None,
    shape: ShapeOption = None,
    report: Annotated[Path | None, typer.Option(help="JSON file to write the report to.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Remove channels or weights that matter least, and write the smaller model as ONNX."""
    from edgeir.calibration_data import samples_from
    from edgeir.commands.pruning_options import gradient_service, pruning_pass, share
    from edgeir.compiler import load_model
    from edgeir.export import export_model
    from edgeir.ir import save_graph
    from edgeir.prune import prune as prune_model

    macs, latency = share(target_macs, "--target-macs"), share(target_latency, "--target-latency")
    item = pruning_pass(granularity, score, ratio, threshold, scope, macs, latency, round_to)
    graph = load_model(model, parse_shapes(shape))
    # Gradients are asked for with the same samples that the labels belong to, so they are kept.
    samples = None if calibration is None else list(samples_from(calibration, graph.inputs))
    services = {}
    if score in ("gradient", "taylor") and samples:
        services["gradients"] = gradient_service(samples, labels, loss)
    result = prune_model(graph, item, target=target, calibration=samples, services=services, measure=measure)
    if output.suffix == ".onnx":
        export_model(result.graph, output)
    else:
        save_graph(result.graph, output)
    if report is not None:
        report.write_text(json.dumps(result.to_dict(), indent=1) + "\n", encoding="utf-8")
    if as_json:
        sys.stdout.write(json.dumps(result.to_dict(), indent=2) + "\n")
        return
    _out.print(layer_table(result))
    for line in refusal_lines(result):
        _say(line)
    if result.before == result.after:
        _say("nothing was removed: every layer's share rounds to what it has (see --round-to)")
    _say(f"{output}: {result.pruning}")


def layer_table(result: PruningResult) -> Table:
    """Each layer before and after."""
    table = Table("layer")
    for heading in ("channels", "parameters", "not zero", "MACs", "bytes"):
        table.add_column(heading, justify="right")
    for name, before, after in result.layers:
        table.add_row(name, *_cells(before, after))
    table.add_section()
    table.add_row("whole graph", *_cells(result.before, result.after))
    return table


def refusal_lines(result: PruningResult) -> list[str]:
    """Why channels or weights stayed."""
    from edgeir.passes.pruning.report import ChannelReport

    if isinstance(result.details, ChannelReport):
        lines = [f"{s.layer}: {s.channels} of {s.of} channels stay: {s.reason}" for s in result.details.stayed]
    else:
        lines = [f"{name}: {reason}" for name, reason in result.details.skipped.items()]
    rest = len(lines) - SHOWN_REASONS
    return lines[:SHOWN_REASONS] + ([f"and {rest} more; the report names them all"] if rest > 0 else [])


def _cells(before: LayerCost, after: LayerCost) -> list[str]:
    pairs = [
        (before.channels, after.channels),
        (before.parameters, after.parameters),
        (before.nonzero, after.nonzero),
        (before.macs, after.macs),
        (before.bytes, after.bytes),
    ]
    shown = ["open" if a is None or b is None else f"{a:,}" if a == b else f"{a:,} → {b:,}" for a, b in pairs]
    return ["" if before.channels == after.channels == 0 else shown[0], *shown[1:]]


def _say(text: str) -> None:
    _out.print(text, highlight=False, markup=False, soft_wrap=True)
