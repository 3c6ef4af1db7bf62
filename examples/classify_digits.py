"""Compiles the digit classifier that ships with EdgeIR for this machine, runs it on 20 handwritten digits, and
compares its answers with the reference evaluator and with the labels.

    python examples/classify_digits.py [--target host]
"""

from __future__ import annotations

import argparse
import tempfile
from importlib.resources import files
from pathlib import Path

import numpy as np

import edgeir
from edgeir.ir.evaluate import evaluate


def main() -> None:
    """Compiles, runs, compares and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="host", help="what to compile for")
    arguments = parser.parse_args()

    models = files("edgeir") / "models"
    with np.load(str(models / "digits.npz")) as data:
        images, labels = data["images"], data["labels"]
    batch = (images[:, None] / 255).astype(np.float32)

    graph = edgeir.load(str(models / "mnist_cnn.onnx"), shapes={"input": batch.shape})
    with tempfile.TemporaryDirectory() as folder:
        artifact = edgeir.compile(graph, target=arguments.target, output=Path(folder) / "digits.edgeir")
        logits = edgeir.Session(artifact.path).run({"input": batch})["logits"]

    reference = evaluate(graph, {"input": batch})["logits"]
    error = np.abs(logits - reference).max() / np.ptp(reference)
    answers = logits.argmax(axis=1)
    print(f"target    {artifact.manifest.target.name} ({artifact.manifest.target.vector_bits}-bit vectors)")
    print(f"labels    {' '.join(map(str, labels))}")
    print(f"answers   {' '.join(map(str, answers))}   {(answers == labels).sum()} of {len(labels)} right")
    print(f"reference {' '.join(map(str, reference.argmax(axis=1)))}   largest error {error:.1e} of the range")
    if error > 1e-4:
        raise SystemExit("the compiled model disagrees with the reference")


if __name__ == "__main__":
    main()
