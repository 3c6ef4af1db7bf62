"""Random graphs that only move data, each of them one kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.ir.builder import Builder
from edgeir.ir.dtype import numpy_dtype
from edgeir.ir.graph import Graph, Node, Value
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passmanager import PassContext
from edgeir.targets import Target

Draw = np.random.Generator


@dataclass(frozen=True)
class Made:
    """A graph of one node and its inputs.

    Attributes:
        graph: before fusion.
        inputs: by name.
    """

    graph: Graph
    inputs: dict[str, np.ndarray]

    def fused(self, target: Target) -> Node:
        """The graph's only node, after fusion."""
        FuseOperators().run(self.graph, PassContext(target=target))
        nodes = list(self.graph.nodes)
        assert len(nodes) == 1, str(self.graph)
        return nodes[0]


def _input(b: Builder, name: str, dtype: str, *shape: int, layout: str = "") -> Value:
    return b.input(name, f"{dtype}[{', '.join(map(str, shape))}]{f'{{{layout}}}' if layout else ''}")


def _cast(b: Builder, x: Value, layout: str) -> Value:
    return b.node("layout_cast", x, output_layout=layout, layout=layout).outputs[0]


def _plane(rng: Draw) -> tuple[int, int]:
    return int(rng.integers(3, 20)), int(rng.integers(3, 20))


def to_blocks(b: Builder, rng: Draw, dtype: str, block: int) -> Value:
    x = _input(b, "x", dtype, int(rng.integers(1, 3)), block * int(rng.integers(1, 4)), *_plane(rng))
    return _cast(b, b.add(x, x), f"NCHW{block}c")


def from_blocks(b: Builder, rng: Draw, dtype: str, block: int) -> Value:
    channels = int(rng.integers(1, 4)) * block - int(rng.choice([0, 0, block // 2, 3]))
    x = _input(b, "x", dtype, 1, channels, *_plane(rng), layout=f"NCHW{block}c")
    scale = _input(b, "scale", dtype, 1, channels, 1, 1)
    return b.mul(_cast(b, x, ""), scale)


def concatenation(b: Builder, rng: Draw, dtype: str, block: int) -> Value:
    """Parts of which some lie in blocks, into blocks."""
    plane = _plane(rng)
    parts = []
    for number in range(int(rng.integers(2, 5))):
        channels = int(rng.integers(1, 5)) * int(rng.choice([block, block // 2, 1], p=[0.45, 0.45, 0.1]))
        layout = str(rng.choice(["", f"NCHW{block}c"]))
        part = _input(b, f"x{number}", dtype, 1, channels, *plane, layout=layout)
        parts.append(_cast(b, part, "") if layout else part)
    parts[-1] = b.add(parts[-1], parts[-1])
    return _cast(b, b.concat(*parts, axis=1), f"NCHW{block}c")


def depth_to_space(b: Builder, rng: Draw, dtype: str, block: int) -> Value:
    """Into planes of more pixels, in blocks on both sides or on neither."""
    factor, blocked = int(rng.choice([2, 2, 3, 4])), bool(rng.integers(2))
    channels, (height, width) = block // 2 * int(rng.integers(1, 4)), _plane(rng)
    layout = f"NCHW{block}c" if blocked else ""
    if blocked:
        x = _cast(b, _input(b, "x", dtype, 1, channels * factor**2, height, width, layout=layout), "")
        y = b.reshape(x, shape=(1, channels, factor, factor, height, width))
    else:
        y = _input(b, "x", dtype, 1, channels, factor, factor, height, width)
    y = b.transpose(y, perm=(0, 1, 4, 2, 5, 3))
    y = b.relu(b.reshape(y, shape=(1, channels, height * factor, width * factor)))
    return _cast(b, y, layout) if blocked else y


def transposition(b: Builder, rng: Draw, dtype: str, block: int) -> Value:
    rank = int(rng.integers(2, 5))
    x = _input(b, "x", dtype, *(int(n) for n in rng.choice([1, 2, 3, 7, 8, 16, 21], rank)))
    return b.abs(b.transpose(x, perm=tuple(int(p) for p in rng.permutation(rank))))


def border(b: Builder, rng: Draw, dtype: str, block: int) -> Value:
    """A transposed plane with a border, and a strided part of it."""
    rows, columns = int(rng.integers(8, 30)), int(rng.integers(8, 30))
    x = b.transpose(_input(b, "x", dtype, rows, columns), perm=(1, 0))
    pads = [int(n) for n in rng.choice([0, 0, 3, 8], 4)]
    y = b.pad(b.relu(x), np.asarray(0, numpy_dtype(dtype)), padding=pads)
    height, width = y.type.static_shape
    step = int(rng.choice([1, -1]))
    return b.slice(y, starts=(0, 0 if step > 0 else width - 1), sizes=(height, width), steps=(1, step))


def stretched(b: Builder, rng: Draw, dtype: str, block: int) -> Value:
    """Nearest elements, between layouts or in the plain one."""
    factor, (height, width) = int(rng.choice([2, 3, 4])), _plane(rng)
    layout = str(rng.choice(["", f"NCHW{block}c"]))
    x = _input(b, "x", dtype, 1, block, height, width, layout=layout)
    sizes = (1, block, height * factor, width * factor)
    y = b.resize(x, sizes=sizes, coordinate_transformation="asymmetric", nearest_mode="floor")
    return b.add(y, y)


GRAPHS: tuple[Callable[[Builder, Draw, str, int], Value], ...] = (
    to_blocks, from_blocks, concatenation, depth_to_space, transposition, border, stretched,
)  # fmt: skip


def made(kind: Callable[[Builder, Draw, str, int], Value], seed: int, dtype: str, block: int) -> Made:
    """A graph of a kind, with random sizes and inputs."""
    rng = np.random.default_rng(seed)
    b = Builder()
    graph = b.outputs(y=kind(b, rng, dtype, block))
    inputs = {
        value.name: (rng.standard_normal(value.type.static_shape) * 20).astype(numpy_dtype(dtype))
        if dtype.startswith("float")
        else rng.integers(0, 40, value.type.static_shape).astype(numpy_dtype(dtype))
        for value in graph.inputs
    }
    return Made(graph, inputs)
