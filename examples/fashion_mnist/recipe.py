"""From initial weights to a pruned network of 8-bit integers."""

from __future__ import annotations

from edgeir.ir import Graph
from edgeir.passes.pipelines import simplification_pipeline
from edgeir.training.fit_options import FitOptions
from edgeir.training.recipes import Distill, Recipe, Stage, Train


def compression_recipe(
    graph: Graph,
    *,
    epochs: tuple[float, float, float] = (16, 5, 2),
    keep_macs: float = 0.5,
    round_to: int | None = None,
    batch_size: int = 128,
    learning_rate: float = 4e-3,
    augment: tuple[str, ...] = ("flip", "shift=2"),
    seed: int = 0,
    threads: int | None = 1,
) -> Recipe:
    """Trains, removes channels and learns again from the unpruned network, then trains with rounded numbers.

    Args:
        graph: with initial weights.
        epochs: of the three trainings.
        keep_macs: share of multiply-accumulates that stays.
        round_to: layers keep multiples of so many channels; of the target's float lanes if None.
        batch_size: samples in a batch.
        learning_rate: of the first training; a half in the second, a sixteenth in the third.
        augment: names of augmentations.
        seed: of the data order and the augmentation.
        threads: of the compiled model.
    """

    def options(index: int, share: float) -> FitOptions:
        return FitOptions(
            epochs=max(1, round(epochs[index])),
            batch_size=batch_size,
            learning_rate=learning_rate * share,
            weight_decay=0.02,
            warmup=0.5,
            seed=seed + index,
        )

    learn_again = Distill("float", hard=0.5, response=0.5, temperature=2.0)
    amount = f"target-macs={keep_macs}" + (f",round-to={round_to}" if round_to is not None else "")
    rounding = f"{simplification_pipeline()},insert-qdq,quantize-weights{{trainable=true}}"
    return Recipe(
        graph,
        (
            Stage("float", (), Train(options(0, 1), augment=augment, batch_statistics=True)),
            Stage(
                "prune",
                (f"prune-channels{{{amount}}}",),
                Train(options(1, 0.5), augment=augment, batch_statistics=True, distill=learn_again),
            ),
            Stage("quantize", (rounding,), Train(options(2, 1 / 16), augment=augment, distill=learn_again)),
        ),
        threads=threads,
        seed=seed,
    )
