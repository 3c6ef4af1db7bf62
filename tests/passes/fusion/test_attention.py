"""Which attentions become one kernel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import edgeir.ops  # noqa: F401  (registers the operators)
from edgeir.ir import Builder, Graph, parse_graph
from edgeir.passes.fusion.fuse_operators import FuseOperators
from edgeir.passmanager import NumericCheck, PassContext, Pipeline
from edgeir.pipeline_search import PipelineSearch
from edgeir.targets import Target, lookup
from tests.lowering.attention_graphs import LAYOUTS, MASKS, AttentionCase

TARGET = lookup("x86-64-v3").with_cores(1)
CASE = AttentionCase(heads=4, queries=16, keys=24, depth=8, columns=16, mask="keys")

BEFORE = """
graph "attention" (%q: float32[1, 4, 16, 8], %k: float32[1, 4, 16, 8], %v: float32[1, 4, 16, 8], %m: float32[1, 1, 1, 16]) {
  %s = matmul(%q, %k) {transpose_a = false, transpose_b = true} : float32[1, 4, 16, 16]
  %x = add(%s, %m) : float32[1, 4, 16, 16]
  %p = softmax(%x) {axis = 3} : float32[1, 4, 16, 16]
  %y = matmul(%p, %v) {transpose_a = false, transpose_b = false} : float32[1, 4, 16, 8]
  %t = transpose(%y) {perm = [0, 2, 1, 3]} : float32[1, 16, 4, 8]
  return "y" = %t
}
"""  # noqa: E501


def fuse(graph: Graph, target: Target | None = TARGET, options: str = "") -> list[str]:
    """Operators of each kernel after the pass, which must leave a valid graph that computes the same."""
    context = PassContext(target=target, instruments=[NumericCheck()], keep_reproducer=False)
    report = Pipeline(f"fuse-operators{options}").run(graph, context)
    agreement = report.passes[-1].agreement
    assert agreement is not None and agreement.max_error == 0.0
    return [
        " ".join(inner.op for inner in node.attributes["body"].nodes) if node.op == "fused" else f"[{node.op}]"
        for node in graph.nodes
    ]


def test_the_text_before_and_after() -> None:
    graph = parse_graph(BEFORE)
    assert fuse(graph) == ["matmul add softmax matmul transpose"]
    (node,) = graph.nodes
    assert node.attributes["anchor"] == "softmax" and [value.name for value in node.present_inputs] == list("qkmv")
    assert '%t = fused(%q, %k, %m, %v) {body = graph "matmul_add_softmax_matmul_transpose"' in str(graph)
    assert str(parse_graph(str(graph))) == str(graph)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("guard", [False, True])
@pytest.mark.parametrize("mask", MASKS)
def test_every_variant_is_one_kernel(mask: str, guard: bool, layout: str) -> None:
    (kernel,) = fuse(replace(CASE, mask=mask, guard=guard, layout=layout).graph())
    assert kernel.split().count("matmul") == 2 and kernel.count("transpose") == 4 * (layout == "heads inside")


def test_moves_and_scalings_of_operands_come_along_and_leading_views_do_not() -> None:
    b = Builder("case")
    q, k, v = (b.input(name, "float32[1, 16, 32]") for name in "qkv")

    def heads(value):
        return b.transpose(b.reshape(value, shape=(1, 16, 4, 8)), perm=(0, 2, 1, 3))

    s = b.matmul(b.mul(heads(q), np.array(0.5, np.float32)), heads(k), transpose_b=True)
    y = b.matmul(b.softmax(s, axis=3), b.exp(heads(v)))
    kernels = fuse(b.outputs(y=b.exp(b.transpose(y, perm=(0, 2, 1, 3)))))
    assert sorted(kernels) == sorted(
        [*["[reshape]"] * 3, "transpose exp", "transpose transpose mul matmul softmax matmul transpose", "exp"]
    )


def test_a_transpose_of_the_columns_stays_outside() -> None:
    b = Builder("case")
    q, k, v = (b.input(name, "float32[4, 16, 16]") for name in "qkv")
    y = b.matmul(b.softmax(b.matmul(q, k), axis=2), v)
    assert fuse(b.outputs(y=b.transpose(y, perm=(0, 2, 1)))) == ["matmul softmax matmul", "transpose"]


def test_two_attentions_in_a_row() -> None:
    b = Builder("case")
    x = b.input("x", "float32[4, 16, 16]")
    for _ in range(2):
        x = b.matmul(b.softmax(b.matmul(x, x, transpose_b=True), axis=2), x)
    assert fuse(b.outputs(y=x)) == ["matmul softmax matmul"] * 2


def separate(case: AttentionCase, target: Target | None, options: str = "") -> bool:
    kernels = fuse(case.graph(), target, options)
    return len(kernels) >= 3 and all(kernel.count("matmul") <= 1 for kernel in kernels)


def test_what_stays_separate() -> None:
    assert not separate(CASE, TARGET)
    assert separate(CASE, TARGET, "{attention=false}")
    assert separate(CASE, None)
    assert separate(CASE, lookup("jetson-orin-nx"))
    assert separate(replace(CASE, queries=3), TARGET)
    # Vectors that keys or columns do not fill.
    assert separate(replace(CASE, keys=7), TARGET) and separate(replace(CASE, columns=7), TARGET)
    assert not separate(replace(CASE, keys=7), lookup("x86-64-v2"))


def test_scores_of_some_queries_must_fit_half_a_cache() -> None:
    # 16 rows of 512 scores are 32 KiB.
    small = replace(TARGET, l1_bytes=8 * 1024, l2_bytes=64 * 1024)
    assert not separate(replace(CASE, keys=512), small)
    assert separate(replace(CASE, keys=513), small)
    assert not separate(replace(CASE, keys=513), replace(small, l1_bytes=16 * 1024))


def test_symbolic_sizes_stay_separate() -> None:
    graph = parse_graph(BEFORE.replace("16,", "T,").replace("16]", "T]"))
    Pipeline("fuse-operators").run(graph, PassContext(target=TARGET, keep_reproducer=False))
    assert len(list(graph.nodes)) >= 3


def test_the_alternative_is_the_same_pass_with_the_option_switched() -> None:
    context, graph = PassContext(target=TARGET), CASE.graph()
    fused, apart = FuseOperators(max_nodes=50), FuseOperators(max_nodes=50, attention=False)
    assert fused.alternatives(graph, context) == (apart,) and apart.alternatives(graph, context) == (fused,)
    assert str(apart) == "fuse-operators{max-nodes=50,attention=false}"
    assert fused.alternatives(replace(CASE, queries=2).graph(), context) == ()
    assert fused.alternatives(graph, PassContext()) == ()
    assert len(list(graph.nodes)) > 1


@pytest.mark.parametrize(("seconds", "best"), [(2.5, "fuse-operators"), (3.5, "fuse-operators{attention=false}")])
def test_tuning_chooses_what_is_measured_to_be_faster(seconds: float, best: str) -> None:
    """Two products and a softmax take a second each."""
    search = PipelineSearch(CASE.graph(), TARGET, lambda task: seconds if "attention" in task.spaces else 1.0)
    assert str(search.run(Pipeline("canonicalize,fuse-operators"))) == f"canonicalize,{best}"
    assert set(search.predicted.values()) == {seconds, 3.0}
