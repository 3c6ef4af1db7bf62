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


def spec(tensor: te.Tensor) -> TensorSpec:
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
    arguments = [tvm.runtime.tensor(np.ascontiguousarray(array)) for array in packed]
    results = [tvm.runtime.tensor(np.full(o.shape, 77).astype(numpy_dtype(o.dtype))) for o in task.outputs]
    library["main"](*arguments, *results)
    return [result.numpy() for result in results]


def numpy_dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)
