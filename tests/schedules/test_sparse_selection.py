"""When sparse kernels are chosen, what is stored for them, and that tuning sees the same tasks."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tvm import te

from edgeir.compiler import prepare
from edgeir.emit import write_c
from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Graph, TensorType
from edgeir.lowering.build import build
from edgeir.lowering.module import plan
from edgeir.schedules.select import matching, select
from edgeir.schedules.sparse_storage import SparsePattern, example_matrix, pack_rows, pattern_of, rounded, stored_words
from edgeir.schedules.sparse_template import SparseMatmul
from edgeir.schedules.task import Task
from edgeir.targets import lookup
from edgeir.tuning.problem import Problem
from edgeir.tuning.tasks import kernel_tasks
from tests.emit.test_c import assert_equals_session, needs_compiler, run_example, split
from tests.emit.test_c import build as build_c
from tests.schedules.tasks import matmul_task as hand_made_matmul
from tests.schedules.test_sparse_kernels import conv_graph, matmul_graph, sparse

AVX2 = lookup("x86-64-v3").with_cores(1)


def task_of(graph: Graph) -> Task:
    (task,) = [step.lowering.task for step in plan(graph) if step.lowering is not None]
    return task


def conv_task(zeros: float, inputs: int = 96, outputs: int = 96, side: int = 14) -> Task:
    weight = sparse(np.random.default_rng(0), (outputs, inputs, 1, 1), zeros)
    return task_of(conv_graph(weight, (side, side), (8, 8)))


def test_dense_kernels_stay_where_few_weights_are_zeros() -> None:
    task = conv_task(0.3)
    assert task.sparsity is None
    assert select(task, AVX2).name == "conv_pointwise"
    assert [t.name for t in matching(task, AVX2) if t.name.startswith("sparse")] == []


def test_sparse_kernels_are_chosen_where_most_weights_are_zeros() -> None:
    assert select(conv_task(0.9), AVX2).name == "sparse_pointwise"
    assert [t.name for t in matching(conv_task(0.9), AVX2)][:2] == ["sparse_pointwise", "conv_pointwise"]


def test_tuning_may_choose_what_is_estimated_to_be_slower() -> None:
    weight = sparse(np.random.default_rng(0), (16, 16, 1, 1), 0.7)
    task = task_of(conv_graph(weight, (112, 112), (8, 8)))
    assert select(task, AVX2).name == "conv_pointwise"
    names = [template.name for template in matching(task, AVX2)]
    assert names[0] == "conv_pointwise" and "sparse_pointwise" in names


def test_products_of_few_rows_are_sparse_where_weights_stream_from_far() -> None:
    far = sparse(np.random.default_rng(0), (1280, 1000), 0.9)
    near = sparse(np.random.default_rng(0), (64, 64), 0.9)
    assert select(task_of(matmul_graph(far, (1,))), AVX2).name == "sparse_matmul"
    assert select(task_of(matmul_graph(near, (1,))), AVX2).name == "matmul-packed"
    assert select(task_of(matmul_graph(far, (64,))), AVX2).name == "sparse_matmul"


def test_the_pattern_is_part_of_the_key_and_places_are_not() -> None:
    first, second = (sparse(np.random.default_rng(seed), (64, 64, 1, 1), 0.9) for seed in (1, 2))
    keys = {task_of(conv_graph(weight, (8, 8), (8, 8))).key for weight in (first, second)}
    dense = task_of(conv_graph(np.ones((64, 64, 1, 1), np.float32), (8, 8), (8, 8))).key
    assert len(keys) == 1 and dense not in keys


def test_the_artifact_holds_the_sparse_form() -> None:
    weight = sparse(np.random.default_rng(0), (192, 384, 1, 1), 0.9)
    lowered = build(conv_graph(weight, (14, 14), (8, 8), epilogue="none"), AVX2, 1)
    assert lowered.kernels[0].template == "sparse_pointwise"
    assert lowered.constant_bytes <= 0.17 * weight.nbytes


def test_an_epilogue_that_moves_elements_leaves_the_product_dense() -> None:
    weight = sparse(np.random.default_rng(0), (64, 64), 0.95)

    def turned(product: Any) -> Any:
        return te.compute((64, 64), lambda i, j: product[j, i], name="turned")

    for epilogue, expected in ((None, True), (turned, False)):
        task = hand_made_matmul((64, 64), (64, 64), constant_b=True, epilogue=epilogue)
        task = replace(task, sparsity=pattern_of(weight.T))
        assert SparseMatmul().match(task, AVX2) is expected


@given(st.integers(0, 10_000_000))
def test_rounding_a_capacity_changes_nothing(pairs: int) -> None:
    capacity = rounded(pairs)
    assert pairs <= capacity <= pairs + max(7, pairs // 32) and rounded(capacity) == capacity


@given(st.integers(1, 40), st.integers(1, 60), st.floats(0.0, 0.35), st.integers(0, 9))
def test_storage_and_examples(rows: int, columns: int, density: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    matrix = generator.standard_normal((rows, columns)).astype(np.float32)
    matrix[generator.random((rows, columns)) > density] = 0
    pattern = pattern_of(matrix)
    if pattern is None:
        return
    words = pack_rows(pattern, rows + 3)(matrix)
    assert words.dtype == np.float32 and words.size == stored_words(pattern, rows + 3)
    np.testing.assert_array_equal(unpacked(words, rows + 3, columns)[:rows], matrix)
    example = example_matrix(pattern, rows, columns, seed)
    assert pattern_of(example) == pattern


def unpacked(words: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The matrix that stored words stand for, read one word after the other."""
    bits = words.view(np.uint32)
    matrix = np.zeros((rows, columns), np.float32)
    for row in range(rows):
        for pair in range(bits[row], bits[row + 1]):
            at = rows + 1 + 3 * pair
            matrix[row, bits[at] & 0xFFFF] += words[at + 1]
            matrix[row, bits[at] >> 16] += words[at + 2]
    return matrix


def test_a_matrix_cannot_hold_more_than_its_elements() -> None:
    with pytest.raises(EdgeIRError, match="more nonzeros"):
        example_matrix(SparsePattern(100), 4, 4)


@pytest.mark.parametrize("kind", ["conv", "matmul", "transposed"])
def test_tuning_reads_the_same_task_back(kind: str) -> None:
    rng = np.random.default_rng(0)
    if kind == "conv":
        graph = conv_graph(sparse(rng, (64, 48, 1, 1), 0.9), (8, 8), (8, 8))
    else:
        graph = matmul_graph(sparse(rng, (96, 80), 0.9), (16,), kind == "transposed")
    (task,) = kernel_tasks(graph, AVX2)
    again = Problem.from_text(task.problem.to_text()).lowering().task
    assert again.key == task.task.key and again.sparsity == task_of(graph).sparsity is not None


def two_layers() -> Graph:
    """Two sparse convolutions, ragged in channels and positions."""
    b = Builder("net")
    rng = np.random.default_rng(0)
    x = b.input("x", TensorType("float32", (1, 32, 14, 14)))
    attributes = {"strides": (1, 1), "padding": (0,) * 4, "dilations": (1, 1), "groups": 1}
    bias = rng.standard_normal(91).astype(np.float32)
    hidden = b.node("conv", x, sparse(rng, (91, 32, 1, 1), 0.9), bias, **attributes).output
    y = b.node("conv", b.node("relu", hidden).output, sparse(rng, (64, 91, 1, 1), 0.95), **attributes).output
    return b.outputs(y=y)


def chosen(graph: Graph, target: str) -> list[str]:
    machine = lookup(target).with_cores(1)
    return [select(step.lowering.task, machine).name for step in plan(graph) if step.lowering is not None]


@needs_compiler
def test_a_c_program_equals_the_session(tmp_path: Path) -> None:
    assert chosen(prepare(two_layers(), "host", threads=1).graph, "host").count("sparse_pointwise") == 2
    assert_equals_session(tmp_path, two_layers(), None)


@pytest.mark.qemu
@pytest.mark.skipif(
    shutil.which("qemu-aarch64") is None or shutil.which("aarch64-linux-gnu-gcc") is None,
    reason="needs qemu-user and gcc-aarch64-linux-gnu",
)
def test_aarch64_without_tvm(tmp_path: Path) -> None:
    compilation = prepare(two_layers(), "cortex-a72", threads=1)
    assert chosen(compilation.graph, "cortex-a72").count("sparse_pointwise") == 2
    write_c(compilation, tmp_path / "c")
    program = build_c(tmp_path / "c", "aarch64-linux-gnu-gcc", "-static")
    report, data = run_example(["qemu-aarch64", "-cpu", "cortex-a72", str(program)], tmp_path / "c")
    wanted = compilation.golden_outputs["y"]
    got = split(data, {"y": wanted})["y"]
    assert np.max(np.abs(got - wanted)) <= 1e-4 * np.ptp(wanted)
    assert report["relative_error"] <= 1e-4
