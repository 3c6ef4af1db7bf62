"""Loop nests on a GPU: parallel loops over its threads, everything else in the order in which it is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Range
from tvm.ir.expr import TensorLoad
from tvm.s_tir.stmt import SBlock, SBlockRealize

from edgeir.schedules import analysis
from edgeir.schedules.tir_types import AnyBlock, AnyBuffer, AnyFunc

_THREAD_INDEX = 1  # tirx.IterVar.ThreadIndex


def bound_loop_nests(func: AnyFunc, threads: int) -> AnyFunc:
    """The function with its loop nests (blocks without axes that hold loops) bound to blocks and threads.

    Args:
        func: its other stages are bound already.
        threads: threads of a block for a parallel loop.
    """
    return private_scratch(
        _on_stages(func, lambda stage: _bound_nest(stage, threads) if _is_loop_nest(stage) else stage)
    )


def in_one_thread(func: AnyFunc) -> AnyFunc:
    """The function with every stage in a single thread: correct for everything, and slow."""
    return private_scratch(_on_stages(func, lambda stage: _one_thread(_serial(stage))))


def private_scratch(func: AnyFunc) -> AnyFunc:
    """The function with buffers that a single launch uses in the memory of each thread.

    TVM allocates such a buffer inside the kernel, where there is no global memory. No iteration of a parallel loop
    reads what another has written, so a copy for each thread serves.
    """
    if not isinstance(func.body, SBlockRealize):
        return func
    launches = _launches(func.body)
    buffers: list[AnyBuffer] = list(func.body.block.alloc_buffers)
    for buffer in buffers:
        users = [launch for launch in launches if analysis.uses(launch, buffer)]
        if len(users) == 1 and buffer.scope() == "global":
            func = _in_registers(func, buffer)
    return func


def _in_registers(func: AnyFunc, buffer: Any) -> AnyFunc:
    local = tirx.decl_buffer(buffer.shape, buffer.dtype, buffer.name, scope="local")

    def swap(variable: Any) -> Any:
        return local if variable.same_as(buffer) else variable

    return tvm_ffi.structural_map(func, ((tirx.Var, swap),))


def _launches(root: Any) -> list[Any]:
    """The outermost loops over blocks of threads."""
    return [
        node
        for node in analysis.nodes(root)
        if isinstance(node, tirx.For)
        and node.thread_binding is not None
        and str(node.thread_binding.thread_tag) == "blockIdx.x"
    ]


def _on_stages(func: AnyFunc, change: Callable[[Any], Any]) -> AnyFunc:
    root = func.body
    if not isinstance(root, SBlockRealize):
        # A function of one stage without a root block: its whole body is that stage.
        return func.with_body(change(root))
    block: AnyBlock = root.block
    if block.name_hint != "root":
        return func.with_body(change(root))
    stages = list(block.body.seq) if isinstance(block.body, tirx.SeqStmt) else [block.body]
    changed = [change(stage) for stage in stages]
    body = changed[0] if len(changed) == 1 else tirx.SeqStmt(changed)
    fresh = SBlock(
        list(block.iter_vars), list(block.reads), list(block.writes), block.name_hint, body, block.init,
        list(block.alloc_buffers), list(block.match_buffers), dict(block.annotations),
    )  # fmt: skip
    return func.with_body(SBlockRealize(list(root.iter_values), root.predicate, fresh))


def _is_loop_nest(stage: Any) -> bool:
    return isinstance(stage, SBlockRealize) and not stage.block.iter_vars


def _bound_nest(stage: Any, threads: int) -> Any:
    block: AnyBlock = stage.block
    body = _bound(block.body, threads)
    fresh = SBlock(
        [], list(block.reads), list(block.writes), block.name_hint, body, block.init,
        list(block.alloc_buffers), list(block.match_buffers), dict(block.annotations),
    )  # fmt: skip
    return SBlockRealize([], stage.predicate, fresh)


def _bound(statement: Any, threads: int) -> Any:
    """The statement as one or more launches, made one after the other by the CPU."""
    if isinstance(statement, tirx.SeqStmt):
        return tirx.SeqStmt([_bound(part, threads) for part in statement.seq])
    if isinstance(statement, tirx.AttrStmt) and str(statement.attr_key) == "pragma_scope":
        return _bound(statement.body, threads)
    if isinstance(statement, tirx.For) and not _loads(statement.min) and not _loads(statement.extent):
        if int(statement.kind) == tirx.ForKind.PARALLEL:
            return _over_threads(statement, threads)
        if _has_parallel_loop(statement.body) and _is_launchable(statement.body):
            # The CPU runs this loop, and launches what is inside at every step.
            body = _bound(statement.body, threads)
            return tirx.For(statement.loop_var, statement.min, statement.extent, tirx.ForKind.SERIAL, body)
    return _one_thread(_serial(statement))


def _is_launchable(statement: Any) -> bool:
    """Whether every part of a loop's body is itself a loop, so that the CPU evaluates nothing that the GPU wrote."""
    parts = statement.seq if isinstance(statement, tirx.SeqStmt) else [statement]
    return all(isinstance(part, tirx.For) for part in parts)


def _loads(root: Any) -> bool:
    return any(isinstance(node, TensorLoad) for node in analysis.nodes(root))


def _has_parallel_loop(root: Any) -> bool:
    return any(isinstance(n, tirx.For) and int(n.kind) == tirx.ForKind.PARALLEL for n in analysis.nodes(root))


def _serial(statement: Any) -> Any:
    """The statement with its parallel and vectorized loops run in order."""

    def serial(loop: Any) -> Any:
        if int(loop.kind) not in (tirx.ForKind.PARALLEL, tirx.ForKind.VECTORIZED):
            return loop
        return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, loop.body)

    return tvm_ffi.structural_map(statement, ((tirx.For, serial),))


def _thread_loop(variable: Any, extent: int, tag: str, body: Any) -> Any:
    axis = tirx.IterVar(Range(tirx.const(0), tirx.const(extent)), variable, _THREAD_INDEX, tag)
    return tirx.For(variable, tirx.const(0), tirx.const(extent), tirx.ForKind.THREAD_BINDING, body, axis)


def _one_thread(statement: Any) -> Any:
    inner = _thread_loop(tirx.Var("tx", "int32"), 1, "threadIdx.x", statement)
    return _thread_loop(tirx.Var("bx", "int32"), 1, "blockIdx.x", inner)


def _over_threads(loop: Any, threads: int) -> Any:
    """`parallel for v: body` → one thread for each v."""
    count = int(loop.extent)
    threads = min(threads, max(32, 1 << max(0, count - 1).bit_length()))
    blocks = max(1, -(-count // threads))
    bx, tx = tirx.Var("bx", "int32"), tirx.Var("tx", "int32")
    index: Any = bx * threads + tx
    body = _serial(loop.body)
    position = (loop.min + index).astype(str(loop.loop_var.ty.dtype))

    def at(variable: Any) -> Any:
        return position if variable.same_as(loop.loop_var) else variable

    body = tvm_ffi.structural_map(body, ((tirx.Var, at),))
    if blocks * threads > count:
        body = tirx.IfThenElse(index < count, body, None)
    return _thread_loop(bx, blocks, "blockIdx.x", _thread_loop(tx, threads, "threadIdx.x", body))
