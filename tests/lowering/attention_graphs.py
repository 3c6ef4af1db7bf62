"""Attention as exporters write it, of any sizes, with or without a mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeir.ir import Builder, Graph

MASKS = ("none", "keys", "full", "choice")
"""No mask; added to every row; added to every score; `where` between the scores and a low number."""

LAYOUTS = ("heads first", "heads inside", "keys as columns")
"""Of q, k and v: (B, H, T, d); (B, T, H, d), transposed in the graph; k as (B, H, d, T)."""


@dataclass(frozen=True)
class AttentionCase:
    """Sizes and variants.

    Attributes:
        batch, heads, queries, keys, depth, columns: sizes.
        mask: one of `MASKS`.
        layout: one of `LAYOUTS`.
        scale: whether scores are divided by √depth.
        guard: whether probabilities that are NaN become zeros.
        blocked: share of the masked elements that are -inf; row 0 of a mask is so as a whole.
    """

    batch: int = 1
    heads: int = 2
    queries: int = 9
    keys: int = 21
    depth: int = 8
    columns: int = 17
    mask: str = "none"
    layout: str = "heads first"
    scale: bool = True
    guard: bool = False
    blocked: float = 0.0

    def graph(self, dtype: str = "float32") -> Graph:
        """The graph: inputs q, k, v and, where there is a mask, m; output y."""
        b = Builder("attention")
        inside = self.layout == "heads inside"

        def operand(name: str, rows: int, columns: int) -> object:
            shape = (self.batch, rows, self.heads, columns) if inside else (self.batch, self.heads, rows, columns)
            value = b.input(name, f"{dtype}[{', '.join(map(str, shape))}]")
            return b.transpose(value, perm=(0, 2, 1, 3)) if inside else value

        q = operand("q", self.queries, self.depth)
        if self.layout == "keys as columns":
            k = b.input("k", f"{dtype}[{self.batch}, {self.heads}, {self.depth}, {self.keys}]")
        else:
            k = operand("k", self.keys, self.depth)
        v = operand("v", self.keys, self.columns)
        s = b.matmul(q, k, transpose_b=self.layout != "keys as columns")
        if self.scale:
            s = b.div(s, np.array(self.depth**0.5, dtype))
        if self.mask == "choice":
            m = b.input("m", f"bool[{self.batch}, 1, {self.queries}, {self.keys}]")
            s = b.where(m, s, np.array(-np.inf, dtype))
        elif self.mask != "none":
            m = b.input("m", f"{dtype}[{self.batch}, 1, {self.queries if self.mask == 'full' else 1}, {self.keys}]")
            s = b.add(s, m)
        p = b.softmax(s, axis=3)
        if self.guard:
            p = b.where(b.is_nan(p), np.array(0, dtype), p)
        y = b.matmul(p, v)
        return b.outputs(y=b.transpose(y, perm=(0, 2, 1, 3)) if inside else y)

    def inputs(self, graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
        """Normally distributed numbers; in a mask some -inf, and one row of nothing else."""
        rng = np.random.default_rng(seed)
        arrays: dict[str, np.ndarray] = {}
        for value in graph.inputs:
            shape = value.type.static_shape
            if value.name != "m":
                arrays[value.name] = rng.standard_normal(shape).astype(value.type.dtype)
                continue
            blocked = rng.random(shape) < self.blocked
            if self.blocked:
                blocked[0, 0, 0] = True
            numbers = ~blocked if self.mask == "choice" else np.where(blocked, -np.inf, rng.standard_normal(shape))
            arrays["m"] = numbers.astype(value.type.dtype)
        return arrays
