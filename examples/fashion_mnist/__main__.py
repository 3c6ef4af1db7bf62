"""Trains a small network on Fashion-MNIST from scratch, prunes and quantizes it, and compiles it: on the CPU, with one
command, which goes on where it stood when it is started again.

    python -m examples.fashion_mnist [--network mobile|residual] [--data FOLDER] [--output FOLDER]

The images come from Debian's package dataset-fashion-mnist, or from a folder with the four IDX files. At the end there
are a table of all stages, the artifact, and `float.onnx`, the float network.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from edgeir.compress import compress
from edgeir.export import export_model
from edgeir.ir import load_graph
from edgeir.training.recipes import RecipeData
from examples.fashion_mnist.comparison import compare
from examples.fashion_mnist.data import DEBIAN_FOLDER, load_images
from examples.fashion_mnist.networks import mobile_network, residual_network
from examples.fashion_mnist.recipe import compression_recipe

NETWORKS = {"mobile": mobile_network, "residual": residual_network}
ROUND_TO = {"mobile": None, "residual": 8}
"""Layers of 16 channels cannot be halved in multiples of 16, the float lanes of AVX-512."""


def main() -> None:
    """Reads the options, runs the recipe, prints its table."""
    parser = argparse.ArgumentParser(
        "python -m examples.fashion_mnist", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", choices=sorted(NETWORKS), default="mobile")
    parser.add_argument("--data", type=Path, default=DEBIAN_FOLDER, help="folder with the four IDX files")
    parser.add_argument("--output", type=Path, default=Path("fashion-mnist.work"), help="folder to work in")
    parser.add_argument("--epochs", type=float, default=1.0, help="factor of all numbers of epochs")
    parser.add_argument("--keep-macs", type=float, default=0.5, help="share of multiply-accumulates that stays")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="of training; all cores if 0")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    images = load_images(arguments.data)
    first, second, third = (arguments.epochs * epochs for epochs in (16, 5, 2))
    recipe = compression_recipe(
        NETWORKS[arguments.network](seed=arguments.seed),
        epochs=(first, second, third),
        keep_macs=arguments.keep_macs,
        round_to=ROUND_TO[arguments.network],
        seed=arguments.seed,
    )
    start = time.monotonic()
    report = compress(
        recipe,
        RecipeData(images.train, images.test),
        arguments.output,
        progress=True,
        on_stage=lambda name: print(f"{time.monotonic() - start:7.0f} s  {name}", flush=True),
    )
    model = arguments.output / "float.onnx"
    export_model(load_graph(arguments.output / "01-float" / "graph.txt"), model)
    print(report)
    if report.artifact is not None:
        print(report.artifact)
        print(compare(model, Path(report.artifact)))


if __name__ == "__main__":
    main()
