"""Memory of a function whose storages are explicit, against sums by hand."""

from __future__ import annotations

from typing import Any

from tvm import relax

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.lowering.module import copy_function
from edgeir.lowering.storages import one_arena, planned_peak, views_of_storage

HALF = relax.TensorType(list[Any]([1024]), "float32")
WHOLE = relax.TensorType(list[Any]([2048]), "float32")


def planned(arena: bool = False) -> Any:
    """Two halves written into a whole of 8192 bytes, the first one read again after it; all through copies."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", HALF)

    def function(size: int) -> Any:
        name = f"copy{size}"
        return builder.add_func(copy_function((size,), "float32", name).without_attr("global_symbol"), name)

    def copied(value: Any, type: Any, size: int) -> Any:
        return builder.emit(relax.call_tir(function(size), relax.Tuple([value]), type))

    def shape(size: int) -> Any:
        return relax.ShapeExpr(list[Any]([size]))

    with builder.function("main", [x]):
        with builder.dataflow():
            whole = builder.emit(relax.op.builtin.alloc_tensor(shape(2048), "float32", 0))
            offsets: Any = (0, 4096)
            rows: Any = (2, 1024)
            kind: Any = "float32"
            halves = [builder.emit(relax.op.memory.view(whole, shape(1024), kind, offset)) for offset in offsets]
            for half in halves:
                builder.emit(relax.Call(function(1024), [copied(x, HALF, 1024), half]))
            again: Any = relax.op.reshape(relax.op.reshape(whole, rows), shape(2048))
            result = copied(builder.emit(again), WHOLE, 2048)
            results = builder.emit_output(relax.Tuple([copied(halves[0], HALF, 1024), result]))
        builder.emit_func_output(results)
    passes = relax.transform
    module: Any = builder.get()
    steps: Any = (
        passes.Normalize(), passes.ToNonDataflow(), passes.RemovePurityChecking(), passes.CallTIRRewrite(),
        *([] if arena else [passes.StaticPlanBlockMemory()]), passes.LowerAllocTensor(), views_of_storage,
        *([one_arena] if arena else []), passes.KillAfterLastUse(),
    )  # fmt: skip
    for step in steps:
        module = step(module)
    return module


def test_peak_counts_storages_as_long_as_a_tensor_lives_in_them() -> None:
    module = planned()
    # The whole (8192) lives until its first half is copied, beside the results: a whole (8192) and a half (4096).
    assert planned_peak(module["main"]) == 8192 + 8192 + 4096


def test_views_become_tensors_of_the_storage() -> None:
    text = planned()["main"].script()
    assert "memory.view" not in text
    assert "alloc_tensor(storage, 4096, R.shape([1024])" in text


def test_one_arena_holds_all_but_the_results() -> None:
    main = planned(arena=True)["main"]
    calls = [binding.value for block in main.body.blocks for binding in block.bindings]
    named = [(getattr(getattr(call, "op", None), "name", ""), call) for call in calls]
    storages = [call for name, call in named if name == "relax.memory.alloc_storage"]
    # The copies of x (4096 bytes each, one after another) beside the whole (8192); and two results.
    assert sorted(int(call.args[0].values[0]) for call in storages) == [4096, 8192, 8192 + 4096]
    arena = main.body.blocks[0].bindings[0].var
    inside = [call for name, call in named if name == "relax.memory.alloc_tensor" and call.args[0].same_as(arena)]
    places = sorted((int(call.args[1].value), int(call.args[2].values[0])) for call in inside)
    # The whole and its two halves, and twice the place beside it.
    assert len(places) == 5
    assert {offset % 64 for offset, _ in places} == {0}
    assert planned_peak(main) == 8192 + 4096 + 8192 + 4096


def test_a_function_without_storages_has_no_arena() -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", HALF)
    with builder.function("main", [x]):
        builder.emit_func_output(x)
    module: Any = builder.get()
    make: Any = one_arena
    assert "alloc_storage" not in make(module)["main"].script()
