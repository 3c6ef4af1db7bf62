"""Operations on 16×16 fragments of bytes of a warp's tensor cores, summed in 32 bits, as `wmma_intrinsics`.

A fragment lies in shared memory as 16 rows of the left operand (columns of the right one) of four words, each of four
bytes along K: 256 bytes, so that every fragment is aligned as `load_matrix_sync` wants it, and what a lane holds are
whole words. CUDA C++ Programming Guide, "Warp Matrix Functions": `signed char` and `unsigned char` operands
of m16n16k16 with an `int` accumulator, on compute capability 7.2 and above.
"""

from __future__ import annotations

from functools import cache

from edgeir.schedules.gpu_integer_words import BYTES
from edgeir.schedules.wmma_intrinsics import SIDE, elementwise, register_intrinsic

WORDS = SIDE // BYTES
"""Words along K of a fragment."""


def name(operation: str, dtype: str) -> str:
    """The intrinsic's name.

    Args:
        operation: `fill` zeroes an accumulator; `load_left` and `load_right` load a fragment from words in shared
            memory; `multiply` multiplies and adds; `store` stores an accumulator to shared [m, n].
        dtype: of the operands, `int8` or `uint8`.
    """
    return f"edgeir_wmma_{dtype}_{operation}"


@cache
def register(dtype: str) -> None:
    """Makes the intrinsics for operands of that type known to TVM; once in a process."""
    left, right = (dtype, "wmma.matrix_a"), (dtype, "wmma.matrix_b")
    total, square, words = ("int32", "wmma.accumulator"), ("int32", "shared"), ("int32", "shared")
    size, area = f"{SIDE}, {SIDE}, {SIDE}", SIDE * SIDE
    register_intrinsic(
        name("fill", dtype), {"C": total}, "", "C", elementwise("C[i, j] = 0"),
        f"T.tvm_fill_fragment(C.data, {size}, C.elem_offset // {area}, 0, dtype='void')",
    )  # fmt: skip
    for operation, fragment, order in (("load_left", left, "row_major"), ("load_right", right, "col_major")):
        # The same memory as bytes.
        source = f"T.ptr_byte_offset(A.access_ptr('r', ptr_type='int32'), 0, '{dtype}'), {SIDE}"
        register_intrinsic(
            name(operation, dtype), {"A": words, "C": fragment}, "A", "C",
            elementwise(f"C[i, j] = T.Cast('{dtype}', T.shift_right(A[j, i // {BYTES}], i % {BYTES} * 8))"),
            f"T.tvm_load_matrix_sync(C.data, {size}, C.elem_offset // {area}, {source}, '{order}', dtype='void')",
            {"A": WORDS},
        )  # fmt: skip
    products = "C[i, j] = C[i, j] + T.Cast('int32', A[k, i]) * T.Cast('int32', B[k, j])"
    fragments = ", ".join(f"{buffer}.data, {buffer}.elem_offset // {area}" for buffer in "CABC")
    register_intrinsic(
        name("multiply", dtype), {"A": left, "B": right, "C": total}, "CAB", "C", elementwise(products, "ijk"),
        f"T.tvm_mma_sync({fragments}, dtype='void')",
    )  # fmt: skip
    destination = f"C.access_ptr('w', ptr_type='int32'), {SIDE}"
    register_intrinsic(
        name("store", dtype), {"A": total, "C": square}, "A", "C", elementwise("C[i, j] = A[i, j]"),
        f"T.tvm_store_matrix_sync(A.data, {size}, A.elem_offset // {area}, {destination}, 'row_major', dtype='void')",
    )  # fmt: skip
