"""Estimated cycles of sparse kernels and of the dense ones that they replace: which tile to take, does it pay.

Constants that no description of a target holds were fitted once, to the pointwise layers of MobileNetV2 at 80, 90 and
95 % zeros in AVX2 on a Zen 4 core (`benchmarks/sparse_layers.py` prints estimates beside measurements).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edgeir.schedules.loops import worth_threads
from edgeir.schedules.register_tile import STACK_LIMIT, divisors, loads_per_cycle
from edgeir.schedules.sparse_problem import SparseProblem
from edgeir.schedules.sparse_product import SparseTile, slab_rows
from edgeir.schedules.sparse_storage import first_pair
from edgeir.schedules.template import Config
from edgeir.targets.target import Target

VECTOR_CYCLES = 1.4
"""Setting a vector of sums to zero, storing it, and loading it again when it is transposed."""

NONZERO_CYCLES = 0.35
"""What a nonzero costs beside its loads and products: unpacking its index, and half a loop's control."""

FAR_SLAB = ((1, 1.5), (4, 1.9))
"""Factor on a nonzero's vector loads where the slab of a tile exceeds so many times the L1 cache."""

SQUARE_CYCLES = 2.5
"""Transposing a square of elements, for each of its vectors."""

STORE_BYTES_PER_CYCLE = 45.0
"""How fast an output that exceeds the L2 cache drains, beside all other work: it is written in short runs."""

PAGE = 4096
"""Bytes after which addresses look alike to caches and store queues."""

ALIASED_POSITIONS = 48
"""Where all blocks of an output start at like addresses, a tile of so many positions doubles the time of its stores."""

WEIGHT_BYTES_PER_CYCLE = {1: 64.0, 2: 32.0, 3: 24.0, 4: 6.0}
"""How fast weights stream from L1, L2, L3 and memory."""

DOT_ROW_CYCLES = 15.0
"""A dot product beside its nonzeros: adding partial sums, and the loop for what does not fill them."""

DOT_CYCLES = 1.0
"""A nonzero of a dot product: a scalar product, two loads and the unpacking of an index."""

DENSE_EFFICIENCY = 0.9
"""Share of the arithmetic peak that the dense kernels reach."""


def tile_choices(problem: SparseProblem, target: Target) -> Mapping[str, Sequence[int | str | bool]]:
    """The space of the sparse templates: `vectors` of positions with sums in registers, `pieces` of outputs."""
    if not problem.by_vectors:
        return {"vectors": [0], "pieces": [1]}
    most = min(problem.groups, target.vector_registers, (STACK_LIMIT - 1) // (4 * problem.lanes))
    if problem.read == "planes":
        most = min(most, max(1, target.vector_registers - 3))
    return {"vectors": list(range(1, most + 1)), "pieces": divisors(problem.blocks, 16) if target.cores > 1 else [1]}


def best_tile(problem: SparseProblem, target: Target) -> Config:
    """The choice with the fewest estimated cycles."""
    space = tile_choices(problem, target)
    best: tuple[float, int, int] | None = None
    for vectors in space["vectors"]:
        for pieces in space["pieces"]:
            found = (sparse_cycles(problem, int(vectors), int(pieces), target), int(pieces), int(vectors))
            best = found if best is None or found < best else best
    assert best is not None
    return {"vectors": best[2], "pieces": best[1]}


def parallel_tile(problem: SparseProblem, config: Config, target: Target) -> SparseTile:
    """A choice as a tile; threads share the work where it is worth waking them."""
    return SparseTile(int(config["vectors"]), int(config["pieces"]), threads(problem, target) > 1)


def threads(problem: SparseProblem, target: Target) -> int:
    """Threads that share the work: 1 where it is not worth waking others."""
    work = problem.images * problem.positions * problem.nonzeros / target.lanes(32)
    return target.cores if worth_threads(work, target) else 1


def sparse_cycles(problem: SparseProblem, vectors: int, pieces: int, target: Target) -> float:
    """Cycles until all threads are done; `vectors` is 0 for dot products."""
    return (_product_cycles if vectors else _dot_cycles)(problem, vectors, pieces, target)


def _product_cycles(problem: SparseProblem, vectors: int, pieces: int, target: Target) -> float:
    registers = max(1, math.ceil(problem.lanes / target.lanes(32)))
    operations = vectors * registers * (1 if target.fma else 2)
    loads = (vectors * registers + 1.0) / loads_per_cycle(target)
    slab = 4 * slab_rows(problem) * vectors * problem.lanes if problem.read == "rows" else 0
    loads *= max([factor for times, factor in FAR_SLAB if slab > times * target.l1_bytes], default=1.0)
    # An accumulator waits for its last addition; rows overlap only in part.
    chain = target.fma_latency / 2
    nonzero = max(operations / target.fma_per_cycle, loads, chain) + NONZERO_CYCLES
    row = VECTOR_CYCLES * vectors * registers
    spilled = vectors * registers + 2 > target.vector_registers
    squares = vectors * registers * SQUARE_CYCLES * problem.lanes / registers
    inputs = -(-problem.depth // problem.lanes) * squares if problem.read == "rows" else 0.0
    outputs = problem.blocks * squares if problem.write == "rows" else 0.0
    sums = problem.outputs * row + problem.nonzeros * nonzero * (2.0 if spilled else 1.0)
    tiles = problem.images * -(-problem.groups // vectors)
    rounds = -(-tiles * pieces // threads(problem, target))
    written = 4 * problem.images * problem.positions * problem.outputs
    drain = written / STORE_BYTES_PER_CYCLE
    if problem.blocked_output and 4 * problem.positions * problem.lanes % PAGE == 0:
        drain *= 1 + vectors * problem.lanes / ALIASED_POSITIONS
    elif written <= target.l2_bytes:
        drain = 0.0
    return rounds * (inputs + (outputs + sums) / pieces) + drain


def _dot_cycles(problem: SparseProblem, _: int, __: int, target: Target) -> float:
    stored = 4 * (first_pair(problem.stored_rows) + 3 * problem.pattern.pairs)
    work = problem.outputs * DOT_ROW_CYCLES + problem.nonzeros * DOT_CYCLES
    return problem.positions * max(work, _stream_cycles(stored, target)) / threads(problem, target)


def dense_cycles(problem: SparseProblem, target: Target) -> float:
    """Cycles of the dense kernels: products at most of the peak, or streaming weights where that takes longer."""
    steps = problem.images * problem.positions * problem.depth * math.ceil(problem.outputs / target.lanes(32))
    operations = steps * (1 if target.fma else 2)
    weights = 4 * problem.depth * problem.outputs
    # A few rows share each vector of weights that is loaded.
    passes = math.ceil(problem.images * problem.positions / 12)
    work = operations / target.fma_per_cycle / DENSE_EFFICIENCY
    return max(work, passes * _stream_cycles(weights, target)) / target.cores


def _stream_cycles(size: int, target: Target) -> float:
    caches = (target.l1_bytes, target.l2_bytes, target.l3_bytes)
    level = next((number for number, held in enumerate(caches, 1) if size <= held * 3 // 4), 4)
    return size / WEIGHT_BYTES_PER_CYCLE[level]


def estimated_gain(problem: SparseProblem, target: Target) -> float:
    """Cycles of the dense kernel over those of the best sparse one."""
    config = best_tile(problem, target)
    return dense_cycles(problem, target) / sparse_cycles(problem, int(config["vectors"]), int(config["pieces"]), target)
