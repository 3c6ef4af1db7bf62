"""Computes injective stages where they are read, when that repeats little work."""

from __future__ import annotations

from typing import Any

import tvm_ffi

from edgeir.schedules import analysis
from edgeir.schedules.tir_types import AnySchedule

# Beyond this many IR nodes a body is compiled slowly, and copies of copies grow exponentially.
_MAX_NODES = 2500
# A stage this cheap may be evaluated again in every reader: a load and some arithmetic cost less than a store.
_CHEAP = 4.0


def _distinct_reads(reader: Any, buffer: Any) -> int:
    """How many different elements of the buffer one run of the reader needs; LLVM computes equal ones once."""
    distinct: list[Any] = []
    for access in analysis.loads(reader):
        index = list(access.indices)
        if access.buffer.same_as(buffer) and not any(tvm_ffi.structural_equal(index, other) for other in distinct):
            distinct.append(index)
    return len(distinct)


def _readers(schedule: AnySchedule, block: Any, buffer: Any) -> tuple[list[Any], float]:
    """The blocks that read the buffer, and how often they evaluate one of its elements together."""
    readers = list(schedule.get_consumers(block))
    evaluations = 0.0
    for reader in readers:
        body = schedule.get(reader)
        if not analysis.is_plain(body):
            return readers, float("inf")
        evaluations += _distinct_reads(body, buffer) * analysis.iterations(schedule, reader)
    return readers, evaluations


def _worth_inlining(schedule: AnySchedule, block: Any) -> bool:
    body = schedule.get(block)
    if not analysis.is_injective(body):
        return False
    buffer = analysis.store(body).buffer
    readers, evaluations = _readers(schedule, block, buffer)
    if not readers or evaluations == float("inf"):
        return False
    repetition = evaluations / max(1, analysis.size(buffer))
    price = analysis.cost(body)
    for reader in readers:
        consumer = schedule.get(reader)
        copies = sum(1 for access in analysis.loads(consumer) if access.buffer.same_as(buffer))
        if analysis.node_count(consumer) + copies * analysis.node_count(body) > _MAX_NODES:
            return False
        if analysis.is_reduction(consumer) and _hides_contiguity(body, consumer, repetition):
            return False
        if analysis.is_reduction(consumer) and _reads_float16(body) and analysis.has_vector_dtypes(consumer):
            return False  # converted once, the reduction runs in vectors
    return repetition <= 1.01 or (price <= _CHEAP and repetition <= 64)


def _hides_contiguity(producer: Any, consumer: Any, repetition: float) -> bool:
    """Whether a boundary test along the innermost dimension would end up in a reduction that reads it repeatedly."""
    if not producer.iter_vars or repetition <= 1.01:
        return False
    return analysis.branches_on(producer, producer.iter_vars[-1].var)


def _reads_float16(body: Any) -> bool:
    return any(str(access.buffer.dtype) == "float16" for access in analysis.loads(body))


def inline_injective(schedule: AnySchedule, keep: frozenset[str] = frozenset()) -> None:
    """Inlines injective stages into their readers.

    A stage is kept where a reader would compute it many times (an exponential that two reductions read), where it
    is an output, or where it is named in `keep`.
    """
    # Again until nothing changes: two readers of a stage may meanwhile have become one, which computes it once.
    while any([_inlined(schedule, name) for name in analysis.names(schedule) if name not in keep]):
        pass


def _inlined(schedule: AnySchedule, name: str) -> bool:
    """Inlines the stage of that name if it is worth it. Returns whether it was."""
    block = schedule.get_sblock(name)
    try:
        if not _worth_inlining(schedule, block):
            return False
        schedule.compute_inline(block)
    except Exception:
        return False  # TVM refuses outputs and indirect writers; the stage then stays as it is
    return True
