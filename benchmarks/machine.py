"""What the machine can do: measured peak of fused multiply-adds, and measured memory bandwidth."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tvm
from tvm.script import tirx as T

from edgeir.runtime.threads import use_threads
from edgeir.targets import Target

_ITERATIONS = 20_000
_REPEATS = 20
_CHAINS_MOST = 16


@dataclass(frozen=True)
class Peak:
    """Measured limits with a number of threads, the best of several repeats.

    Attributes:
        threads: that number.
        gflops: 10⁹ float32 operations per second of independent vector FMAs (2 operations a lane).
        l2_gbs, l3_gbs, dram_gbs: 10⁹ bytes per second that a triad reads and writes on arrays that fill half of each
            thread's level 2 cache, a quarter of level 3 (0 where there is none), and four times the largest cache.
            Lines that the processor fetches only to overwrite them are not counted.
        l2_bytes, l3_bytes: the cache sizes.
    """

    threads: int
    gflops: float
    l2_gbs: float
    l3_gbs: float
    dram_gbs: float
    l2_bytes: int
    l3_bytes: int

    def bandwidth(self, size: int) -> float:
        """The bandwidth in GB/s that bounds a kernel which touches `size` bytes."""
        if size <= self.l2_bytes * self.threads:
            return self.l2_gbs
        return self.l3_gbs if self.l3_gbs and size <= self.l3_bytes else self.dram_gbs

    def least_seconds(self, macs: int, size: int) -> float:
        """The roofline: what binds, arithmetic or bytes (Williams, Waterman and Patterson, 2009)."""
        return max(2 * macs / (self.gflops * 1e9), size / (self.bandwidth(size) * 1e9))

    def to_dict(self) -> dict[str, float | int]:
        """The fields, for JSON."""
        return asdict(self)


def measure(target: Target, threads: int) -> Peak:
    """Measures this machine, with code compiled for a target that it can run.

    Args:
        target: vector width, registers, caches.
        threads: number of threads that all take part.
    """
    use_threads(threads)
    target = target.with_cores(threads)
    largest = max(target.l3_bytes, target.l2_bytes)
    return Peak(
        threads,
        _fma_gflops(target, threads),
        _triad_gbs(target, threads, target.l2_bytes // 2 * threads),
        _triad_gbs(target, threads, target.l3_bytes // 4) if target.l3_bytes else 0.0,
        _triad_gbs(target, threads, min(4 * largest, 512 << 20)),
        target.l2_bytes,
        target.l3_bytes,
    )


def _fma_gflops(target: Target, threads: int) -> float:
    lanes = target.lanes()
    # Enough independent chains to cover the latency on every port, and registers left for the factor.
    chains = max(1, min(_CHAINS_MOST, target.vector_registers - 4))
    iterations = _ITERATIONS

    @T.prim_func(check_well_formed=False)
    def fma(factor: T.float32, out: T.Buffer((threads, chains, lanes), "float32")):  # pyright: ignore
        for t in T.parallel(threads):
            acc = T.alloc_buffer((chains, lanes), "float32", scope="local")
            for i in T.unroll(chains):
                for v in T.vectorized(lanes):
                    acc[i, v] = T.float32(0)
            for _ in range(iterations):
                for i in T.unroll(chains):
                    for v in T.vectorized(lanes):
                        # Converges to 1: no denormals, no overflow.
                        acc[i, v] = acc[i, v] * factor + factor
            for i in T.unroll(chains):
                for v in T.vectorized(lanes):
                    out[t, i, v] = acc[i, v]

    out = tvm.runtime.tensor(np.zeros((threads, chains, lanes), np.float32))
    seconds = _fastest(fma, target, [0.5, out])
    if not np.allclose(out.numpy(), 1.0):
        raise RuntimeError("the FMA kernel computed something else")
    return 2 * threads * chains * lanes * iterations / seconds / 1e9


def _triad_gbs(target: Target, threads: int, total_bytes: int) -> float:
    lanes = target.lanes()
    rows = max(1, total_bytes // (3 * 4 * lanes * threads))
    sweeps = max(1, (8 << 20) // max(1, total_bytes))

    @T.prim_func(check_well_formed=False)
    def triad(
        a: T.Buffer((threads, rows, lanes), "float32"),  # pyright: ignore
        b: T.Buffer((threads, rows, lanes), "float32"),  # pyright: ignore
        c: T.Buffer((threads, rows, lanes), "float32"),  # pyright: ignore
    ):
        for t in T.parallel(threads):
            for _ in range(sweeps):
                for r in range(rows):
                    for v in T.vectorized(lanes):
                        c[t, r, v] = a[t, r, v] + b[t, r, v] * T.float32(0.5)

    arrays = [tvm.runtime.tensor(np.ones((threads, rows, lanes), np.float32)) for _ in range(3)]
    seconds = _fastest(triad, target, arrays)
    if not np.allclose(arrays[2].numpy(), 1.5):
        raise RuntimeError("the triad computed something else")
    return 3 * 4 * lanes * rows * threads * sweeps / seconds / 1e9


def _fastest(func: Any, target: Target, arguments: list[Any]) -> float:
    """Seconds of the fastest run."""
    module = tvm.IRModule({"main": func.with_attr("global_symbol", "main")})
    library = tvm.compile(module, tvm.target.Target(target.tvm_config()), tir_pipeline="s_tir").mod
    timer = library.time_evaluator("main", tvm.cpu(), number=1, repeat=_REPEATS)
    return min(timer(*arguments).results)
