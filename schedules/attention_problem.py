"""Attention as templates see it: sizes, and its computation cut at the two products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeir.schedules.tir_types import AnyTensor


@dataclass(frozen=True)
class AttentionStages:
    """The computation in TE, cut at the two products.

    Attributes:
        placeholders, outputs: the kernel's arguments; the outputs are computed by definition.
        query, key, value: (*batch, queries, depth), (*batch, keys, depth), (*batch, keys, columns).
        scores: a placeholder that stands for the first product, (*batch, queries, keys).
        logits: what softmax reads, made of `scores`.
    """

    placeholders: Sequence[AnyTensor]
    outputs: Sequence[AnyTensor]
    query: AnyTensor
    key: AnyTensor
    value: AnyTensor
    scores: AnyTensor
    logits: AnyTensor


@dataclass(frozen=True)
class Attention:
    """softmax(q·kᵀ …)·v for each element of a batch.

    Attributes:
        batch: sizes of the batch, several heads included.
        queries, keys: rows of q; rows of k and v.
        depth: columns of q and k.
        columns: columns of v and of the result.
        guard: whether rows of probabilities that are NaN become zeros.
        order: the output's axis i holds the product's axis order[i]; the last one stays the last.
        build: lays out the computation.
    """

    batch: tuple[int, ...]
    queries: int
    keys: int
    depth: int
    columns: int
    guard: bool
    order: tuple[int, ...]
    build: Callable[[], AttentionStages]
