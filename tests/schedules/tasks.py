"""Tasks made by hand, for tests of schedule templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import te

from edgeir.schedules.task import AnchorCompute, Kernel, Operand, Task, TensorSpec
from edgeir.targets.target import Target

Compute = Callable[..., te.Tensor | Sequence[te.Tensor]]

PLAIN = Target(name="plain", triple="x86_64-linux-gnu", cpu="x86-64-v2", vector_bits=128)
"""A machine on which every x86-64 test machine can run: 128-bit vectors, one core."""


def spec(tensor: Any) -> TensorSpec:
    return TensorSpec(tuple(int(d) for d in tensor.shape), str(tensor.dtype))


def group_task(
    compute: Compute,
    inputs: Sequence[tuple[tuple[int, ...], str]],
    anchor: str = "elementwise",
    attributes: Mapping[str, Any] | None = None,
) -> Task:
    """A task without a packable anchor: `compute(*placeholders)` gives its outputs."""

    def build(
        anchor: AnchorCompute | None = None, packed: Mapping[int, tuple[int, ...]] | None = None
    ) -> tuple[list[te.Tensor], list[te.Tensor]]:
        assert anchor is None and not packed
        placeholders = [te.placeholder(shape, dtype, name=f"in{i}") for i, (shape, dtype) in enumerate(inputs)]
        outputs = compute(*placeholders)
        return placeholders, [outputs] if isinstance(outputs, te.Tensor) else list(outputs)

    placeholders, outputs = build()
    specs = [spec(p) for p in placeholders]
    return Task(
        name="main",
        anchor=anchor,
        attributes=dict(attributes or {}),
        anchor_inputs=tuple(specs),
        anchor_output=spec(outputs[0]),
        anchor_operands=tuple(range(len(specs))),
        operands=tuple(Operand(f"in{i}", s) for i, s in enumerate(specs)),
        outputs=tuple(spec(o) for o in outputs),
        build=build,
        key=f"{anchor}{inputs}",
    )


def run(kernel: Kernel, task: Task, arrays: Sequence[np.ndarray], target: Target = PLAIN) -> list[np.ndarray]:
    """Compiles the kernel, packs its constants and returns its outputs."""
    library = tvm.compile(tvm.IRModule({"main": kernel.func}), tvm.target.Target(target.tvm_config()))
    packed = [kernel.pack[i](array) if i in kernel.pack else array for i, array in enumerate(arrays)]
    arguments = [tvm.runtime.tensor(np.asarray(array, order="C")) for array in packed]
    results = [tvm.runtime.tensor(np.full(o.shape, 77).astype(numpy_dtype(o.dtype))) for o in task.outputs]
    library["main"](*arguments, *results)
    return [result.numpy() for result in results]


def numpy_dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def matmul_task(
    a_shape: tuple[int, ...],
    b_shape: tuple[int, ...],
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    constant_b: bool = False,
    extra: Sequence[tuple[int, ...]] = (),
    epilogue: Callable[..., te.Tensor] | None = None,
    prologue: Callable[[te.Tensor], te.Tensor] | None = None,
    dtype: str = "float32",
) -> Task:
    """A matmul task; `epilogue(product, *extra)` follows it, `prologue(b)` precedes it."""
    operands = [a_shape, b_shape, *extra]

    def right(b: Any) -> Any:
        return prologue(b) if prologue is not None else b

    example: Any = right(te.placeholder(b_shape, dtype))
    b_type = example.shape
    b_inner = tuple(int(d) for d in b_type)
    m = a_shape[-1] if transpose_a else a_shape[-2]
    n = b_inner[-2] if transpose_b else b_inner[-1]
    out_shape = (*np.broadcast_shapes(a_shape[:-2], b_inner[:-2]), m, n)

    def plain(inputs: Sequence[te.Tensor]) -> Any:
        a, b = inputs
        k = te.reduce_axis((0, b_inner[-1] if transpose_b else b_inner[-2]), name="k")

        def pick(x: Any, index: Sequence[Any], pair: tuple[Any, Any]) -> Any:
            own = [int(d) for d in x.shape[:-2]]
            batch = index[len(index) - 2 - len(own) : -2]
            return x(*(0 if d == 1 else i for d, i in zip(own, batch, strict=True)), *pair)

        def element(*i: Any) -> Any:
            left = pick(a, i, (k, i[-2]) if transpose_a else (i[-2], k))
            return te.sum(left * pick(b, i, (i[-1], k) if transpose_b else (k, i[-1])), axis=k)

        return te.compute(out_shape, element, name="product")

    def build(
        anchor: AnchorCompute | None = None, packed: Mapping[int, tuple[int, ...]] | None = None
    ) -> tuple[list[te.Tensor], list[te.Tensor]]:
        shapes = [(packed or {}).get(i, shape) for i, shape in enumerate(operands)]
        placeholders = [te.placeholder(shape, dtype, name=f"in{i}") for i, shape in enumerate(shapes)]
        product: Any = (anchor or plain)([placeholders[0], right(placeholders[1])])
        shape: Any = product.shape
        assert tuple(int(d) for d in shape) == out_shape
        return placeholders, [epilogue(product, *placeholders[2:]) if epilogue is not None else product]

    return Task(
        name="main",
        anchor="matmul",
        attributes={"transpose_a": transpose_a, "transpose_b": transpose_b},
        anchor_inputs=(TensorSpec(a_shape, dtype), TensorSpec(b_inner, dtype)),
        anchor_output=TensorSpec(out_shape, dtype),
        anchor_operands=(0, None if prologue is not None else 1),
        operands=tuple(Operand(f"in{i}", TensorSpec(s, dtype), i == 1 and constant_b) for i, s in enumerate(operands)),
        outputs=(spec(build()[1][0]),),
        build=build,
        key=f"matmul{operands}",
    )
