"""Kernels that move data against the reference evaluator, in every configuration, and what their code is made of."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import tvm

from edgeir.errors import EdgeIRError
from edgeir.ir.builder import Builder
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.layouts import to_logical, to_physical
from edgeir.lowering.task import lower_node
from edgeir.schedules.data_movement import DataMovement
from edgeir.schedules.select import select
from edgeir.schedules.task import Task
from edgeir.targets import Target, lookup
from tests.schedules import movement_graphs
from tests.schedules.movement_graphs import GRAPHS, Made, made
from tests.schedules.tasks import run
from tests.schedules.x86_machines import machine

TEMPLATE = DataMovement()
SEEDS = range(3)
MACHINES = (
    ("x86-64-v2", "float32"), ("x86-64-v3", "float32"), ("host", "float32"),
    ("x86-64-v3", "int8"), ("x86-64-v3", "float64"), ("x86-64-v3", "uint16"), ("x86-64-v3", "int32"),
)  # fmt: skip


def task_of(case: Made, target: Target) -> Task:
    return lower_node(case.fused(target), "main").task


def check(case: Made, target: Target, rng: np.random.Generator, share: int) -> bool:
    """Compares some configurations with the reference. Returns whether the template takes the graph."""
    expected = evaluate(case.graph, case.inputs)["y"]
    lowering = lower_node(case.fused(target), "main")
    task = lowering.task
    if not TEMPLATE.match(task, target):
        return False
    assert select(task, target).name == TEMPLATE.name
    arrays = []
    for source in lowering.sources:
        if isinstance(source, np.ndarray):
            arrays.append(source)
        else:
            logical = source.data if source.is_constant else case.inputs[source.name]
            arrays.append(to_physical(logical, source.type))
    space = TEMPLATE.space(task, target)
    default = TEMPLATE.default(task, target)
    others = [{name: values[int(rng.integers(len(values)))] for name, values in space.items()} for _ in range(share)]
    for config in (default, *others):
        (found,) = run(TEMPLATE.apply(task, config, target), task, arrays, target)
        result = to_logical(found, case.graph.outputs[0].type)
        np.testing.assert_array_equal(result, expected, err_msg=f"{config}\n{task.key}")
        if case.graph.outputs[0].type.layout:
            # Lanes that hold no element are zeros, which the kernels that read them count on.
            np.testing.assert_array_equal(found, to_physical(expected, case.graph.outputs[0].type))
    return True


@pytest.mark.parametrize("kind", GRAPHS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("name", "dtype"), MACHINES)
def test_random_graphs(name: str, dtype: str, kind: Any) -> None:
    target = machine(name, 2)
    rng = np.random.default_rng(len(kind.__name__))
    block = target.lanes(32)
    taken = [check(made(kind, seed, dtype, block), target, rng, 1) for seed in SEEDS]
    if kind in (movement_graphs.to_blocks, movement_graphs.from_blocks) and dtype == "float32":
        assert any(taken)


@pytest.mark.parametrize("cores", [1, 2])
def test_all_configurations(cores: int) -> None:
    """Of the two kernels of a text detector that this was made for, at a smaller size."""
    target = machine("x86-64-v3", cores)
    for text in ("concat", "depth to space"):
        b = Builder()
        if text == "concat":
            x = b.input("x", "float32[1, 24, 9, 17]{NCHW16c}")
            plain = b.node("layout_cast", x, output_layout="", layout="").outputs[0]
            scale = b.input("s", "float32[1, 24, 1, 1]")
            parts = [b.input(f"p{i}", "float32[1, 24, 9, 17]") for i in range(3)]
            whole = b.concat(*parts, b.add(plain, b.mul(plain, scale)), axis=1)
        else:
            x = b.input("x", "float32[1, 96, 9, 17]{NCHW16c}")
            plain = b.node("layout_cast", x, output_layout="", layout="").outputs[0]
            y = b.transpose(b.reshape(plain, shape=(1, 24, 2, 2, 9, 17)), perm=(0, 1, 4, 2, 5, 3))
            whole = b.relu(b.reshape(y, shape=(1, 24, 18, 34)))
        graph = b.outputs(y=b.node("layout_cast", whole, output_layout="NCHW16c", layout="NCHW16c").outputs[0])
        rng = np.random.default_rng(0)
        inputs = {v.name: rng.standard_normal(v.type.static_shape).astype("float32") for v in graph.inputs}
        expected = evaluate(graph, inputs)["y"]
        case = Made(graph, inputs)
        task = task_of(case, target)
        arrays = [to_physical(inputs[v.name], v.type) for v in graph.inputs]
        space = TEMPLATE.space(task, target)
        for tile in space["tile"]:
            for parallel in space.get("parallel", [None]):
                config = {"tile": tile} if parallel is None else {"tile": tile, "parallel": parallel}
                (found,) = run(TEMPLATE.apply(task, config, target), task, arrays, target)
                np.testing.assert_allclose(to_logical(found, graph.outputs[0].type), expected, rtol=1e-6, atol=1e-6)


def test_a_transposition_reads_and_writes_vectors() -> None:
    target = lookup("x86-64-v3").with_cores(1)
    b = Builder()
    x = b.input("x", "float32[64, 72]")
    case = Made(b.outputs(y=b.relu(b.transpose(x, perm=(1, 0)))), {})
    task = task_of(case, target)
    func = TEMPLATE.apply(task, TEMPLATE.default(task, target), target).func
    library = tvm.compile(tvm.IRModule({"main": func}), tvm.target.Target(target.tvm_config()))
    text = library.mod.inspect_source("ll")
    assert "shufflevector" in text and re.search(r"store <8 x float>", text)
    assert "insertelement <8 x float>" not in text


def test_what_it_leaves_to_others() -> None:
    target = lookup("x86-64-v3").with_cores(1)
    b = Builder()
    x = b.input("x", "float32[1, 32, 9, 9]{NCHW8c}")
    assert not TEMPLATE.match(task_of(Made(b.outputs(y=b.abs(x)), {}), target), target)
    b = Builder()
    x = b.input("x", "float16[64, 64]")
    assert not TEMPLATE.match(task_of(Made(b.outputs(y=b.transpose(x, perm=(1, 0))), {}), target), target)
    scalar = Target(name="scalar", triple="x86_64-linux-gnu", vector_bits=0)
    b = Builder()
    x = b.input("x", "float32[64, 64]")
    assert not TEMPLATE.match(task_of(Made(b.outputs(y=b.transpose(x, perm=(1, 0))), {}), target), scalar)


def test_wrong_knobs_are_refused() -> None:
    target = lookup("x86-64-v3").with_cores(1)
    b = Builder()
    x = b.input("x", "float32[64, 72]")
    task = task_of(Made(b.outputs(y=b.relu(b.transpose(x, perm=(1, 0)))), {}), target)
    for config in ({"tile": "3:5x7"}, {"width": 8}):
        with pytest.raises(EdgeIRError, match="wrong knobs"):
            TEMPLATE.apply(task, config, target)


def test_no_tile_takes_memory_from_the_heap() -> None:
    """TVM allocates local buffers of 1 KB and more for every tile anew."""
    target = lookup("x86-64-v4").with_cores(1)
    b = Builder()
    x = b.input("x", "float32[2, 2, 80, 80]")
    y = b.reshape(b.transpose(x, perm=(2, 0, 3, 1)), shape=(160, 160))
    task = task_of(Made(b.outputs(y=b.sigmoid(y)), {}), target)
    assert 1024 in {4 * int(np.prod(tile.sides)) for tile in TEMPLATE.plan(task, target).tiles}
    for tile in TEMPLATE.space(task, target)["tile"]:
        func = TEMPLATE.apply(task, {"tile": tile}, target).func
        library = tvm.compile(tvm.IRModule({"main": func}), tvm.target.Target(target.tvm_config()))
        assert "AllocWorkspace" not in library.mod.inspect_source("ll")
