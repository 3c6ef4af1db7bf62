"""Operations on 16×16 fragments of a warp's tensor cores, as TVM's `tensorize` wants them: what they compute, and how.

CUDA C++ Programming Guide, "Warp Matrix Functions": `fill_fragment`, `load_matrix_sync`, `mma_sync` and
`store_matrix_sync` of float16 fragments with a float32 accumulator.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import tvm.script
from tvm.s_tir import TensorIntrin

SIDE = 16
"""Rows, columns and depth of a fragment."""

FILL, LOAD_LEFT, LOAD_RIGHT, MULTIPLY, STORE = (
    f"edgeir_wmma_{name}" for name in ("fill", "load_left", "load_right", "multiply", "store")
)
"""Zero an accumulator; load a left fragment from shared [k, m] and a right one from shared [k, n]; multiply and add;
store an accumulator to shared [m, n]."""


def _index(buffer: str) -> str:
    """Which fragment of its array a 16×16 region of the buffer is."""
    offset, stride = f"{buffer}.elem_offset", f"{buffer}.strides[0]"
    return f"{offset} // {stride} // {SIDE} * ({stride} // {SIDE}) + {offset} % {stride} // {SIDE}"


def register_intrinsic(
    name: str,
    buffers: Mapping[str, tuple[str, str]],
    reads: str,
    writes: str,
    what: str,
    how: str,
    columns: Mapping[str, int] | None = None,
) -> None:
    """Makes an intrinsic known to TVM.

    Args:
        name: its name.
        buffers: name → (dtype, storage scope).
        reads, writes: names of the buffers that are read and written.
        what: the statements that it stands for.
        how: the expression that computes the same.
        columns: for buffers of other regions than 16×16, how many columns.
    """
    shapes = {buffer: (SIDE, (columns or {}).get(buffer, SIDE)) for buffer in buffers}
    TensorIntrin.register(
        name,
        _function(buffers, shapes, reads, writes, what, strides=False),
        _function(buffers, shapes, reads, writes, f"T.evaluate({how})", strides=True),
        override=True,
    )


def _function(
    buffers: Mapping[str, tuple[str, str]],
    shapes: Mapping[str, tuple[int, int]],
    reads: str,
    writes: str,
    body: str,
    strides: bool,
) -> Any:
    """A PrimFunc over regions of the given shapes; `strides`: whether they have strides of their own."""

    def region(name: str) -> str:
        return f"{name}[0:{shapes[name][0]}, 0:{shapes[name][1]}]"

    lines = ["@T.prim_func(s_tir=True)", f"def main({', '.join(f'p{name}: T.handle' for name in buffers)}):"]
    for name, (dtype, scope) in buffers.items():
        own = ""
        if strides:
            lines += [f"    {name}0 = T.int32()", f"    {name}1 = T.int32()"]
            own = f", strides=[{name}0, {name}1]"
        match = f"p{name}, {shapes[name]}, '{dtype}', align=64, offset_factor={SIDE}, scope='{scope}'{own}"
        lines.append(f"    {name} = T.match_buffer({match})")
    lines += ["    with T.sblock('root'):", f"        T.reads({', '.join(map(region, reads))})"]
    lines += [f"        T.writes({', '.join(map(region, writes))})"]
    lines += [f"        {line}" for line in body.splitlines()]
    return tvm.script.from_source("\n".join(lines))


def elementwise(statement: str, axes: str = "ij") -> str:
    """The statement for each element; `k` is a sum's axis."""
    names, kinds = ", ".join(axes), "".join("R" if axis == "k" else "S" for axis in axes)
    loops = ", ".join(f"{axis}_" for axis in axes)
    return (
        f"for {loops} in T.grid({', '.join([str(SIDE)] * len(axes))}):\n"
        f"    with T.sblock('element'):\n"
        f"        {names} = T.axis.remap('{kinds}', [{loops}])\n"
        f"        {statement}"
    )


@cache
def register() -> None:
    """Makes the intrinsics known to TVM; once in a process."""
    left, right = ("float16", "wmma.matrix_a"), ("float16", "wmma.matrix_b")
    total, tile = ("float32", "wmma.accumulator"), ("float16", "shared")
    size = f"{SIDE}, {SIDE}, {SIDE}"

    register_intrinsic(
        FILL, {"C": total}, "", "C", elementwise("C[i, j] = T.float32(0)"),
        f"T.tvm_fill_fragment(C.data, {size}, {_index('C')}, T.float32(0), dtype='void')",
    )  # fmt: skip
    # A left fragment lies in memory by columns: consecutive rows are neighbours.
    for name, fragment, order in ((LOAD_LEFT, left, "col_major"), (LOAD_RIGHT, right, "row_major")):
        source = "A.access_ptr('r', ptr_type='float16'), A.strides[0]"
        register_intrinsic(
            name, {"A": tile, "C": fragment}, "A", "C", elementwise("C[i, j] = A[i, j]"),
            f"T.tvm_load_matrix_sync(C.data, {size}, {_index('C')}, {source}, '{order}', dtype='void')",
        )  # fmt: skip
    products = "C[i, j] = C[i, j] + T.Cast('float32', A[k, i]) * T.Cast('float32', B[k, j])"
    fragments = ", ".join(f"{name}.data, {_index(name)}" for name in "CABC")
    register_intrinsic(
        MULTIPLY, {"A": left, "B": right, "C": total}, "CAB", "C", elementwise(products, "ijk"),
        f"T.tvm_mma_sync({fragments}, dtype='void')",
    )  # fmt: skip
    destination = "C.access_ptr('w', ptr_type='float32'), C.strides[0]"
    register_intrinsic(
        STORE, {"A": total, "C": ("float32", "shared")}, "A", "C", elementwise("C[i, j] = A[i, j]"),
        f"T.tvm_store_matrix_sync(A.data, {size}, {_index('A')}, {destination}, 'row_major', dtype='void')",
    )  # fmt: skip
