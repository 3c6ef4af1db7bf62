"""Memory of a Relax function whose storages are explicit: views as tensors of their storage, one arena, the peak."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import tvm
from tvm import relax

from edgeir.lowering.arena import Interval, live_bytes, plan_arena
from edgeir.lowering.in_place import ALIGNMENT

_ALLOC_STORAGE, _ALLOC_TENSOR = "relax.memory.alloc_storage", "relax.memory.alloc_tensor"
_VIEW = "relax.memory.view"
_KILLS = ("relax.memory.kill_storage", "relax.memory.kill_tensor")
_SHARING = (_ALLOC_TENSOR, _VIEW, "relax.reshape")


@tvm.transform.module_pass(opt_level=0, name="views_of_storage")
def views_of_storage(module: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
    """Turns every `memory.view` in `main` of a tensor whose storage is explicit into an `alloc_tensor` there.

    So that the virtual machine makes them with the built-in that makes all tensors.
    """
    main: Any = module["main"]
    # Tensor → its storage and where it begins.
    places: dict[Any, tuple[Any, int]] = {}
    blocks = []
    for block in main.body.blocks:
        bindings = []
        for binding in block.bindings:
            value: Any = binding.value
            name = _name(value)
            if name == _ALLOC_TENSOR:
                places[binding.var] = value.args[0], int(value.args[1].value)
            elif name == _VIEW and value.args[0] in places:
                storage, start = places[value.args[0]]
                places[binding.var] = storage, start + int(value.args[3].value)
                shape, dtype = value.args[1:3]
                made = relax.op.memory.alloc_tensor(storage, places[binding.var][1], shape, dtype)
                binding = relax.VarBinding(binding.var, made)
            bindings.append(binding)
        blocks.append(relax.BindingBlock(bindings))
    body = relax.SeqExpr(blocks, main.body.body)
    function = relax.Function(main.params, body, main.ret_ty, main.is_pure, main.attrs)
    module.update_func(module.get_global_var("main"), function)
    return module


@tvm.transform.module_pass(opt_level=0, name="one_arena")
def one_arena(module: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
    """Puts the storages of `main` into one, but for those of results; it is shared by what lives at different times.

    Less memory than storages that are reused whole, and what is written next is more often in a cache still. Kernels
    must take arguments that begin inside a storage.
    """
    main: Any = module["main"]
    bindings = [binding for block in main.body.blocks for binding in block.bindings]
    lives, returned = _lifetimes(main)
    inner = [storage for storage in lives if storage not in returned]
    if not inner:
        return module
    sizes = [-(-lives[storage].size // ALIGNMENT) * ALIGNMENT for storage in inner]
    intervals = [replace(lives[storage], size=size) for storage, size in zip(inner, sizes, strict=True)]
    arena_plan = plan_arena(intervals)
    starts = dict(zip(inner, arena_plan.offsets, strict=True))
    first: Any = next(binding.value for binding in bindings if binding.var in starts)
    builder = relax.BlockBuilder()
    size: Any = relax.ShapeExpr(list[Any]([arena_plan.size]))
    made: Any = builder.normalize(relax.op.memory.alloc_storage(size, *first.args[1:]))
    arena = relax.Var("arena", made.ty)
    changed: list[Any] = [relax.VarBinding(arena, made)]
    for binding in bindings:
        value: Any = binding.value
        if binding.var in starts:
            continue
        if _name(value) == _ALLOC_TENSOR and value.args[0] in starts:
            offset: Any = starts[value.args[0]] + int(value.args[1].value)
            value = relax.op.memory.alloc_tensor(arena, offset, value.args[2], value.args[3])
            binding = relax.VarBinding(binding.var, value)
        changed.append(binding)
    body = relax.SeqExpr([relax.BindingBlock(changed)], main.body.body)
    function = relax.Function(main.params, body, main.ret_ty, main.is_pure, main.attrs)
    module.update_func(module.get_global_var("main"), function)
    return module


def planned_peak(function: Any) -> int:
    """The greatest sum of storages alive at once, in bytes.

    A storage lives as long as something uses a tensor in it, whichever way it came to it: `kill_storage` follows its
    last `alloc_tensor` and frees nothing while that tensor lives.
    """
    return live_bytes(list(_lifetimes(function)[0].values()))


def _lifetimes(function: Any) -> tuple[dict[Any, Interval], set[Any]]:
    """The steps from and to which each storage is in use, and the storages of what is returned."""
    sizes: dict[Any, int] = {}
    first: dict[Any, int] = {}
    last: dict[Any, int] = {}
    # Variable → the storages that it keeps alive.
    kept: dict[Any, set[Any]] = {}
    bindings = [binding for block in function.body.blocks for binding in block.bindings]
    for step, binding in enumerate(bindings):
        value = binding.value
        name = _name(value)
        if name in _KILLS:
            continue
        if name == _ALLOC_STORAGE:
            shape: Any = value.args[0]
            sizes[binding.var] = math.prod(int(size) for size in shape.values)
            first[binding.var] = last[binding.var] = step
            kept[binding.var] = {binding.var}
            continue
        used = {storage for variable in _variables(value) for storage in kept.get(variable, ())}
        last.update(dict.fromkeys(used, step))
        if not isinstance(value, relax.Call) or name in _SHARING:
            kept[binding.var] = used
    returned = {storage for variable in _variables(function.body.body) for storage in kept.get(variable, ())}
    last.update(dict.fromkeys(returned, len(bindings)))
    return {storage: Interval(size, first[storage], last[storage]) for storage, size in sizes.items()}, returned


def _name(value: Any) -> str:
    return str(getattr(value.op, "name", "")) if isinstance(value, relax.Call) else ""


def _variables(expression: Any) -> list[Any]:
    found: list[Any] = []
    relax.analysis.post_order_visit(
        expression, lambda part: found.append(part) if isinstance(part, relax.Var) else None
    )
    return found
