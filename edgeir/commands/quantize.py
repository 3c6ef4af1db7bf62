"""The command `quantize`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from edgeir.commands.shapes import ShapeOption, parse_shapes
from edgeir.errors import EdgeIRError

_out = Console()


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(quantize)


def quantize(
    model: Annotated[Path, typer.Argument(help="ONNX file or IR text, float.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="QDQ ONNX file to write, or IR text (.edgeir).")],
    calibration: Annotated[
        Path | None, typer.Option(help="Samples: .npz, .npy, or a folder of such files or of pictures.")
    ] = None,
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="Quantize inputs of products as they come; needs no samples.")
    ] = False,
    target: Annotated[
        str, typer.Option("--target", "-t", help="Preset, LLVM triple with +features, or host.")
    ] = "host",
    bits: Annotated[int, typer.Option(help="Bits of a weight: 8 or 4.")] = 8,
    scheme: Annotated[str, typer.Option(help="Weights: linear, or log2 for powers of 2.")] = "linear",
    observer: Annotated[
        str, typer.Option(help="Ranges: min-max, moving-average, percentile, entropy or mse.")
    ] = "percentile",
    placement: Annotated[
        str, typer.Option(help="Rounding: portable (around every operator) or fused (between kernels).")
    ] = "portable",
    activations: Annotated[str, typer.Option(help="uint8, int8, or auto: what the target multiplies.")] = "auto",
    symmetric: Annotated[bool, typer.Option("--symmetric", help="Put 0 in the middle of activations' ranges.")] = False,
    skip: Annotated[
        list[str] | None, typer.Option(help="Leave this operator or layer in float (repeat for several).")
    ] = None,
    equalize: Annotated[
        bool, typer.Option("--equalize", help="Make channels between layers equally large first.")
    ] = False,
    compensate: Annotated[
        bool | None,
        typer.Option(
            "--compensate/--no-compensate",
            help="Round weights so that their errors make up for each other on the samples; on below 8 bits.",
        ),
    ] = None,
    correct_bias: Annotated[
        bool, typer.Option("--correct-bias", help="Make up for the mean error of rounded weights.")
    ] = False,
    max_drop: Annotated[
        float | None,
        typer.Option(help="Percent of agreement with the float model that may be lost; the worst layers stay wider."),
    ] = None,
    shape: ShapeOption = None,
    samples: Annotated[int | None, typer.Option(min=1, help="The most calibration samples to use.")] = None,
    evaluation: Annotated[Path | None, typer.Option(help="Other samples for the comparison.")] = None,
    mean: Annotated[str, typer.Option(help="Of pictures: subtracted from pixels; one number or one a channel.")] = "0",
    deviation: Annotated[str, typer.Option(help="Of pictures: what is left is divided by this.")] = "255",
    report: Annotated[Path | None, typer.Option(help="JSON file to write the report to.")] = None,
) -> None:
    """Quantize a model after training, and compare it with the float model."""
    from edgeir.calibration_data import ImageOptions
    from edgeir.export import export_model
    from edgeir.ir import save_graph
    from edgeir.quantizer import quantize as quantize_model

    result = quantize_model(
        *(model, calibration),
        target=target,
        bits=bits,
        scheme=scheme,
        observer=observer,
        placement=placement,
        activations=activations,
        symmetric=symmetric,
        skip=tuple(skip or ()),
        equalize=equalize,
        compensate=compensate,
        correct_bias=correct_bias,
        max_drop=max_drop,
        dynamic=dynamic,
        shapes=parse_shapes(shape),
        images=ImageOptions(_numbers("--mean", mean), _numbers("--deviation", deviation)),
        limit=samples,
        evaluation=evaluation,
    )
    if output.suffix == ".onnx":
        export_model(result.graph, output)
    else:
        save_graph(result.graph, output)
    if report is not None:
        result.report.save(report)
    layers = Table("operator", "layer", "SQNR dB", "bits", "weight scales", "input", "output")
    for layer in result.report.layers:
        layers.add_row(
            layer.op,
            layer.name,
            f"{layer.sqnr_db:.1f}" if math.isfinite(layer.sqnr_db) else "–",
            str(layer.weight_bits or "float"),
            _pair(layer.weight_scales),
            _pair(layer.input_range),
            _pair(layer.output_range),
        )
    if result.report.layers:
        _out.print(layers)
    outputs = Table("output", "max error", "mean cosine", "least cosine", "top-1 agreement")
    for row in result.report.outputs:
        outputs.add_row(
            row.name, f"{row.max_error:.3g}", f"{row.mean_cosine:.5f}", f"{row.min_cosine:.5f}", f"{row.top1:.1%}"
        )
    if result.report.outputs:
        _out.print(outputs)
    counted = f"{result.report.calibration_samples} samples, compared on {result.report.evaluation_samples}"
    _out.print(f"{output}: calibrated on {counted}", highlight=False, markup=False, soft_wrap=True)


def _pair(pair: tuple[float, float] | None) -> str:
    return "float" if pair is None else f"{pair[0]:.2g}…{pair[1]:.2g}"


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise EdgeIRError("not numbers", where=option, expected="127.5 or 123.7,116.3,103.5", got=text) from None
