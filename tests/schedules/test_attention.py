"""Attention in one kernel: every way to cut its loops against the definition, and what LLVM makes of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tvm

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.errors import EdgeIRError
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.task import lower_node
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passmanager import PassContext
from edgeir.schedules.attention import AttentionTemplate
from edgeir.schedules.select import matching, select
from edgeir.schedules.task import Task
from edgeir.targets import Target, host, lookup
from tests.lowering.attention_graphs import LAYOUTS, AttentionCase
from tests.schedules.assembly import Block, loop_blocks
from tests.schedules.tasks import PLAIN, run

TEMPLATE = AttentionTemplate()
TWO = PLAIN.with_cores(2)
VECTORS = {"x86-64-v4": "%zmm", "x86-64-v3": "%ymm", "cortex-a72": ".4s"}
"""Target → how a full vector of floats is written in its assembly."""


class Kernel:
    """A case as one kernel: its task, its operands and what it should compute."""

    def __init__(self, case: AttentionCase, target: Target = PLAIN) -> None:
        graph = case.graph()
        inputs = case.inputs(graph)
        self.expected = evaluate(graph, inputs)["y"]
        FuseOperators().run(graph, PassContext(target=target))
        (node,) = graph.nodes
        self.task: Task = lower_node(node, "main").task
        self.arrays = [inputs[value.name] for value in node.present_inputs]

    def check(self, config: dict[str, Any] | None = None, target: Target = PLAIN) -> None:
        """Compiles with a config (the default's knobs where it has none) and compares."""
        chosen = {**TEMPLATE.default(self.task, target), **(config or {})}
        (found,) = run(TEMPLATE.apply(self.task, chosen, target), self.task, self.arrays, target)
        np.testing.assert_allclose(found, self.expected, rtol=1e-5, atol=1e-5)


CONFIGS = (
    {"block": 13, "score_rows": 1, "score_vectors": 1, "value_rows": 1, "value_vectors": 1},
    {"block": 7, "score_rows": 3, "score_vectors": 2, "value_rows": 2, "value_vectors": 3},
    {"block": 5, "score_rows": 8, "score_vectors": 5, "value_rows": 7, "value_vectors": 2},
    {"block": 1, "score_rows": 2, "score_vectors": 4, "value_rows": 3, "value_vectors": 1},
)
"""Blocks and tiles that overlap the ones before them, and tiles that are larger than a block."""


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: str(config["block"]))
def test_every_way_to_cut_the_loops(config: dict[str, Any], layout: str) -> None:
    # Every remainder: 13 queries, 22 keys and 14 columns in vectors of 4, depth 6 in squares of 4.
    kernel = Kernel(AttentionCase(2, 2, 13, 22, 6, 14, "full", layout))
    for packed in (False, True):
        kernel.check({**config, "pack_keys": packed, "pack_values": packed}, TWO)


@pytest.mark.parametrize(("depth", "columns"), [(1, 4), (3, 5), (16, 16), (33, 8)])
@pytest.mark.parametrize(("queries", "keys"), [(4, 4), (5, 64), (40, 7)])
def test_sizes(queries: int, keys: int, depth: int, columns: int) -> None:
    Kernel(AttentionCase(1, 2, queries, keys, depth, columns, "keys", "heads inside")).check()


def test_weights_are_as_exact_as_single_precision_allows() -> None:
    case = AttentionCase(1, 1, 64, 256, 8, 16, scale=False)
    kernel = Kernel(case)
    kernel.arrays[0] *= 6
    exact = [array.astype(np.float64)[0, 0] for array in kernel.arrays]
    logits = exact[0] @ exact[1].T
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = weights @ exact[2] / weights.sum(axis=1, keepdims=True)
    config = TEMPLATE.default(kernel.task, PLAIN)
    (found,) = run(TEMPLATE.apply(kernel.task, config, PLAIN), kernel.task, kernel.arrays)
    assert np.abs(logits).max() > 40 and np.abs(found[0, 0] - expected).max() < 1e-5


def hot_loops(target_name: str, case: AttentionCase) -> tuple[list[Block], list[int]]:
    """The loops of sums that do not wait for each other, and how many sums the two tiles have."""
    target = lookup(target_name)
    task = Kernel(case, target).task
    config = TEMPLATE.default(task, target)
    kernel = TEMPLATE.apply(task, config, target)
    executable: Any = tvm.compile(kernel.func, target=tvm.target.Target(target.tvm_config()))
    blocks = loop_blocks(executable.mod.inspect_source("s"))
    sums = [int(config[f"{name}_rows"]) * int(config[f"{name}_vectors"]) for name in ("score", "value")]
    # LLVM may have unrolled a loop once.
    loops = [
        b
        for b in blocks
        if len(b.accumulators) in sums and len(b.fmas) in (len(b.accumulators), 2 * len(b.accumulators))
    ]
    return loops, sums


@pytest.mark.parametrize("layout", ["heads inside", "keys as columns"])
@pytest.mark.parametrize("size", [(64, 32), (197, 64)], ids=str)
@pytest.mark.parametrize("target_name", VECTORS)
def test_both_products_hold_full_vectors_and_keep_their_sums_in_registers(
    target_name: str, size: tuple[int, int], layout: str
) -> None:
    length, depth = size
    loops, sums = hot_loops(target_name, AttentionCase(1, 2, length, length, depth, depth, "keys", layout))
    target = lookup(target_name)
    assert min(sums) >= target.fma_latency * target.fma_per_cycle
    assert {len(loop.accumulators) for loop in loops} == set(sums) and len(loops) >= 2
    for loop in loops:
        assert all(VECTORS[target_name] in line for line in loop.fmas)
        assert loop.spills == [] and len(loop.fmas) >= 0.4 * len(loop.instructions)


@pytest.mark.parametrize("name", ["cortex-a53", "armv7-neon", "riscv64-v", "wasm32", "aarch64-linux-gnu"])
def test_it_builds_for_other_machines(name: str) -> None:
    target = lookup(name).with_cores(2)
    task = Kernel(AttentionCase(1, 2, 33, 40, 24, 24, "full", "heads inside", guard=True), target).task
    assert select(task, target).name == "attention"
    kernel = TEMPLATE.apply(task, TEMPLATE.default(task, target), target)
    executable: Any = tvm.compile(kernel.func, target=tvm.target.Target(target.tvm_config()))
    assert "main" in executable.mod.inspect_source("s")


def test_blocks_follow_the_caches_and_the_cores() -> None:
    task = Kernel(AttentionCase(1, 1, 512, 512, 64, 64), PLAIN).task
    small = replace(PLAIN, l1_bytes=32 * 1024, l2_bytes=128 * 1024)
    # A quarter of 128 KiB holds 16 rows of 512 scores.
    assert TEMPLATE.default(task, small)["block"] == 16
    assert TEMPLATE.default(task, replace(small, l2_bytes=1024 * 1024))["block"] == 128
    short = Kernel(AttentionCase(1, 1, 64, 64, 64, 64), PLAIN).task
    assert [TEMPLATE.default(short, PLAIN.with_cores(cores))["block"] for cores in (1, 2, 4)] == [64, 32, 16]


def test_a_thread_needs_little_memory() -> None:
    task = Kernel(AttentionCase(1, 4, 512, 512, 32, 32), PLAIN).task
    config = {**TEMPLATE.default(task, PLAIN), "block": 64}
    scores = 4 * 64 * 512
    assert scores < TEMPLATE.apply(task, config, PLAIN).workspace_bytes < 1.8 * scores
    assert TEMPLATE.apply(task, config, TWO).workspace_bytes == 2 * TEMPLATE.apply(task, config, PLAIN).workspace_bytes


def test_which_tasks_match() -> None:
    task = Kernel(AttentionCase(keys=8, columns=8)).task
    assert matching(task, PLAIN)[0].name == "attention"
    assert TEMPLATE.match(task, replace(PLAIN, vector_bits=256)) and not TEMPLATE.match(
        task, replace(PLAIN, vector_bits=512)
    )
    assert not TEMPLATE.match(task, lookup("cuda-sm_87"))
    assert not TEMPLATE.match(replace(task, attention=None), PLAIN)


def test_every_other_template_that_matches_computes_the_same() -> None:
    kernel = Kernel(AttentionCase(mask="full", guard=True))
    others = [template for template in matching(kernel.task, PLAIN) if template.name != "attention"]
    assert others
    for template in others:
        config = template.default(kernel.task, PLAIN)
        (found,) = run(template.apply(kernel.task, config, PLAIN), kernel.task, kernel.arrays)
        np.testing.assert_allclose(found, kernel.expected, rtol=1e-5, atol=1e-5)


def test_other_knobs_are_refused() -> None:
    task = Kernel(AttentionCase()).task
    default = TEMPLATE.default(task, PLAIN)
    for config in ({}, {**default, "block": 4}, {**default, "value_vectors": 9}, {**default, "threads": 2}):
        with pytest.raises(EdgeIRError, match=r"wrong knobs|outside its space"):
            TEMPLATE.apply(task, config, PLAIN)
    with pytest.raises(EdgeIRError, match="not an attention"):
        TEMPLATE.default(replace(task, attention=None), PLAIN)


def test_this_machine() -> None:
    target = host().with_cores(2)
    case = AttentionCase(1, 3, 50, 77, 40, 33, "keys", "heads inside")
    Kernel(case, target).check(target=target)
