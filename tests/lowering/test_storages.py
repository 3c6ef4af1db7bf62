"""Memory of a function whose storages are explicit, against sums by hand."""

from __future__ import annotations

from typing import Any

from tvm import relax

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.lowering.module import copy_function
from edgeir.lowering.storages import planned_peak, views_of_storage

HALF = relax.TensorType(list[Any]([1024]), "float32")
WHOLE = relax.TensorType(list[Any]([2048]), "float32")


def planned() -> Any:
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
        passes.StaticPlanBlockMemory(), passes.LowerAllocTensor(), views_of_storage, passes.KillAfterLastUse(),
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
