"""Numbers that describe a scheduled kernel's loops to the cost model, and an estimate of its cycles.

The statement that takes the most cycles by the estimate is described by itself: its register tile, the loads beside its
arithmetic, its innermost loops and their working sets. Sums over all statements tell of copies, transforms, epilogues
and tails. A level of cache is crossed by what a loop touches whose working set no longer fits (the reuse distance in
units of loops); the estimate is the larger of arithmetic, loads and each level's traffic, as in the roofline model
(Williams, Waterman and Patterson, CACM 52(4), 2009). Sizes enter as binary logarithms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeir.schedules.register_tile import STEP_OVERHEAD, loads_per_cycle
from edgeir.schedules.template import Config
from edgeir.targets.target import Target
from edgeir.tuning.loop_nest import Access, LoopNest, Statement, loop_nest
from edgeir.tuning.record import config_text
from edgeir.tuning.tasks import KernelTask

L2_BYTES_PER_CYCLE, L3_BYTES_PER_CYCLE = 32.0, 12.0
"""Bytes per cycle that a core reads from its second and its third level of cache; about those of x86 cores."""

SPILL_CYCLES = 2.0
"""Cycles of a store and a load for each register that a step needs beyond those that there are."""

CALL_CYCLES = 20.0

RELATIVE = ("operations", "cycles", "estimate", "beyond_l1", "beyond_l2", "code", "stored")
"""Features that are also given relative to the default configuration's."""

HOT = (
    *("lanes", "vectors", "unrolled", "accumulators", "registers", "loads_per_operation", "cycles_per_operation"),
    *("inner", "second", "third", "inner_bytes", "second_bytes", "third_bytes", "l1_reuse", "l2_reuse"),
    *("hot_beyond_l1", "hot_beyond_l2", "stride", "hot_share", "tail_share"),
)
WHOLE = ("pieces", "idle", "statements", "code", "allocated", "operations", "stored", "cycles", "estimate")
NAMES = (*HOT, *WHOLE, "beyond_l1", "beyond_l2", *(f"relative_{name}" for name in RELATIVE))


@dataclass(frozen=True)
class Step:
    """One iteration of a statement's innermost loop that is neither unrolled nor a vector.

    Attributes:
        depth: of the first loop inside it.
        steps: how many there are.
        copies: statements that unrolling makes of one.
        vectors: registers that one of them fills.
        lanes: elements in a register, by those that fit.
        operations: vector operations.
        loads, stores: vector or broadcast loads and stores that reach memory.
        accumulators: registers that are carried from step to step.
        cycles: of one step.
    """

    depth: int
    steps: int
    copies: int
    vectors: int
    lanes: float
    operations: float
    loads: float
    stores: float
    accumulators: int
    registers: int
    cycles: float


def step_of(statement: Statement, target: Target) -> Step:
    """The innermost step of a statement."""
    loops = statement.loops
    depth = len(loops)
    while depth and loops[depth - 1].kind in ("unrolled", "vectorized"):
        depth -= 1
    body = range(depth, len(loops))
    vector = next((i for i in body if loops[i].kind == "vectorized"), None)
    length = loops[vector].extent if vector is not None else 1
    fitting = max(1, target.vector_bits // (8 * statement.store.bytes))
    vectors = -(-length // fitting)
    copies = math.prod(loops[i].extent for i in body if i != vector)
    reduces = any(access.buffer == statement.store.buffer for access in statement.loads)

    def registers(access: Access) -> float:
        """Registers that hold what the step touches of it, each element once."""
        walked = math.prod(loops[i].extent for i in body if i != vector and access.depends(i))
        if vector is None or not access.depends(vector):
            return min(walked, math.prod(span[depth] for span in access.spans))
        if not access.contiguous(vector):
            return walked * length
        return min(walked, math.prod(span[depth] for span in access.spans) // length or 1) * vectors

    accumulators = round(registers(statement.store)) if reduces else 0
    loaded = list({(a.buffer, a.spans): a for a in statement.loads if a.buffer != statement.store.buffer}.values())
    loads = sum(map(registers, loaded))
    carried = reduces and depth > 0 and not statement.store.depends(depth - 1)
    stores = 0.0 if carried else registers(statement.store)
    operations = float((statement.arithmetic + CALL_CYCLES * statement.calls) * copies * vectors)
    needed = accumulators + (min(map(registers, loaded)) if loaded else 0) + (1 if loaded else 0)
    latency = float(target.fma_latency) if carried else 0.0
    cycles = max(operations / target.fma_per_cycle, latency, loads / loads_per_cycle(target), stores) + STEP_OVERHEAD
    cycles += SPILL_CYCLES * max(0.0, needed - target.vector_registers)
    steps = math.prod(loop.extent for loop in loops[:depth])
    lanes = length / (vectors * fitting)
    return Step(*(depth, steps, copies, vectors, lanes, operations, loads, stores, accumulators, round(needed), cycles))


def working_set(statement: Statement, depth: int) -> int:
    """Bytes that the loops from `depth` inwards touch."""
    distinct = {(a.buffer, a.spans): a for a in (statement.store, *statement.loads)}
    return sum(access.footprint(depth) for access in distinct.values())


def fitting_depth(statement: Statement, cache: int) -> int:
    """The outermost depth whose working set fits a cache."""
    for depth in range(len(statement.loops) + 1):
        if working_set(statement, depth) <= cache:
            return depth
    return len(statement.loops)


def traffic(statement: Statement, cache: int) -> float:
    """Bytes that come from beyond a cache: whatever is touched at the depth that fits, each time it is entered.

    An access that does not change with the loop just outside stays in the cache.
    """
    depth = fitting_depth(statement, cache)
    total = 0.0
    for access in {(a.buffer, a.spans): a for a in (statement.store, *statement.loads)}.values():
        outer = depth
        while outer and not access.depends(outer - 1):
            outer -= 1
        total += access.footprint(depth) * math.prod(loop.extent for loop in statement.loops[:outer])
    return total


def nest_row(nest: LoopNest, target: Target) -> dict[str, float]:
    """Features of a kernel's loops by name, without those relative to the default; infinite values do not occur."""
    steps = [step_of(statement, target) for statement in nest.statements]
    if not steps:
        return {}
    l1, l2 = max(1, target.l1_bytes), max(target.l1_bytes, target.l2_bytes or target.l1_bytes, 1)
    near = [traffic(statement, l1) for statement in nest.statements]
    far = [traffic(statement, l2) for statement in nest.statements]
    cycles = [step.steps * step.cycles for step in steps]
    bounds = [max(c, a / L2_BYTES_PER_CYCLE, b / L3_BYTES_PER_CYCLE) for c, a, b in zip(cycles, near, far, strict=True)]
    pieces = [math.prod(loop.extent for loop in s.loops if loop.kind in ("parallel", "bound")) for s in nest.statements]
    idle = [-(-count // target.cores) * target.cores / max(1, count) for count in pieces]
    hot = max(range(len(steps)), key=lambda i: bounds[i])
    total, operations = sum(cycles), sum(step.steps * step.operations for step in steps)
    written = [statement.store.buffer for statement in nest.statements]
    tails = [c for i, c in enumerate(cycles) if i != hot and written[i] == written[hot]]
    step = steps[hot]
    return {
        **_hot(nest.statements[hot], step, target, l1, l2),
        "hot_beyond_l1": near[hot] / max(1.0, step.steps * step.operations),
        "hot_beyond_l2": far[hot] / max(1.0, step.steps * step.operations),
        "hot_share": cycles[hot] / total,
        "tail_share": sum(tails) / total,
        "pieces": log_size(pieces[hot]),
        "idle": idle[hot],
        "statements": float(len(steps)),
        "code": log_size(sum(s.copies * s.vectors for s in steps)),
        "allocated": log_size(nest.allocated),
        "operations": log_size(operations),
        "stored": log_size(sum(s.steps * s.stores for s in steps)),
        "cycles": log_size(sum(c * i for c, i in zip(cycles, idle, strict=True)) / target.cores),
        "estimate": log_size(sum(c * i for c, i in zip(bounds, idle, strict=True)) / target.cores),
        "beyond_l1": log_size(sum(near)),
        "beyond_l2": log_size(sum(far)),
    }


def _hot(statement: Statement, step: Step, target: Target, l1: int, l2: int) -> dict[str, float]:
    loops = [(depth, loop) for depth, loop in enumerate(statement.loops[: step.depth]) if loop.extent > 1][::-1]
    inner = [loop.extent for _, loop in loops[:3]] + [1] * 3
    sets = [working_set(statement, depth) for depth, _ in loops[:3]] + [math.nan] * 3
    near, far = fitting_depth(statement, l1), fitting_depth(statement, l2)
    walked = [a for a in statement.loads if loops and a.depends(loops[0][0])]
    steps = [a.footprint(loops[0][0]) / loops[0][1].extent for a in walked]
    return {
        "lanes": step.lanes,
        "vectors": float(step.vectors),
        "unrolled": log_size(step.copies),
        "accumulators": step.accumulators / target.vector_registers,
        "registers": step.registers / target.vector_registers,
        "loads_per_operation": step.loads / max(1.0, step.operations),
        "cycles_per_operation": step.cycles / max(1.0, step.operations),
        **{name: log_size(extent) for name, extent in zip(("inner", "second", "third"), inner, strict=False)},
        **{f"{n}_bytes": log_size(size) for n, size in zip(("inner", "second", "third"), sets, strict=False)},
        "l1_reuse": log_size(math.prod(loop.extent for loop in statement.loops[near:])),
        "l2_reuse": log_size(math.prod(loop.extent for loop in statement.loops[far:])),
        "stride": log_size(max(steps, default=0.0)),
    }


def log_size(value: float) -> float:
    """How a size enters a row: a binary logarithm, 0 for nothing, NaN for what is unknown."""
    return math.nan if math.isnan(value) else math.log2(1 + max(0.0, float(value)))


_rows: dict[tuple[str, str, str], dict[str, float]] = {}
MOST_ROWS = 20_000


def nest_features(task: KernelTask, template: str, config: Config) -> np.ndarray:
    """The row of one configuration, float32, shape (len(NAMES),); what is unknown is NaN. Rows are remembered."""
    row, default = _row(task, template, config), _row(task, *task.default)
    relative = {f"relative_{name}": row[name] - default[name] for name in RELATIVE if name in row and name in default}
    return np.array([{**row, **relative}.get(name, math.nan) for name in NAMES], np.float32)


def _row(task: KernelTask, template: str, config: Config) -> dict[str, float]:
    key = (task.context.hash, template, config_text(config))
    if key not in _rows:
        if len(_rows) >= MOST_ROWS:
            _rows.clear()
        _rows[key] = _scheduled(task, template, config)
    return _rows[key]


def _scheduled(task: KernelTask, template: str, config: Config) -> dict[str, float]:
    try:
        kernel = task.template(template).apply(task.task, config, task.target)
    except Exception:  # A configuration that cannot be scheduled is measured as a failure; TVM raises types of its own.
        return {}
    return nest_row(loop_nest(kernel.func), task.target)
