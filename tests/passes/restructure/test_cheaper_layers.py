"""Cheaper layers: exact where the weights have low rank, the reported error where not, and only where they pay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import edgeir.passes  # noqa: F401 (registers the operators)
from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Graph, graph_statistics
from edgeir.ir.evaluate import evaluate
from edgeir.passes.restructure.approximation import RESTRUCTURED, RestructuringReport
from edgeir.passes.restructure.factorize_low_rank import FactorizeLowRank
from edgeir.passes.restructure.separate_convolutions import SeparateConvolutions
from edgeir.passmanager import PassContext
from edgeir.targets import lookup
from tests.strategies import assert_outputs_close, random_inputs

random = np.random.default_rng(5)


def convolution(weights: np.ndarray, strides: tuple[int, int] = (1, 1), bias: bool = True) -> Graph:
    b = Builder("net")
    x = b.input("x", f"float32[2, {weights.shape[1]}, 7, 6]")
    operands = [x, weights.astype(np.float32), *([random.standard_normal(weights.shape[0]).astype(np.float32)] * bias)]
    return b.outputs(
        y=b.conv(*operands, strides=strides, padding=(1, 0, 1, 2), dilations=(1, 1), name="layer", groups=1)
    )


def product(weights: np.ndarray, transpose_b: bool = False) -> Graph:
    b = Builder("net")
    x = b.input("x", f"float32[3, {weights.shape[1 if transpose_b else 0]}]")
    return b.outputs(y=b.matmul(x, weights.astype(np.float32), transpose_b=transpose_b, name="layer"))


def rewritten(item: Any, graph: Graph, context: PassContext | None = None) -> tuple[Graph, RestructuringReport]:
    reports: list[RestructuringReport] = []
    context = context or PassContext()
    context.services = {RESTRUCTURED: reports.append}
    result = graph.copy()
    item.run(result, context)
    result.verify()
    assert [value.name for value in result.outputs] == [value.name for value in graph.outputs]
    return result, reports[0]


def same(graph: Graph, other: Graph) -> None:
    inputs = random_inputs(graph)
    assert_outputs_close(evaluate(other, inputs), evaluate(graph, inputs))


def output_error(graph: Graph, other: Graph) -> float:
    inputs = random_inputs(graph)
    a, b = evaluate(graph, inputs)["y"], evaluate(other, inputs)["y"]
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


@pytest.mark.parametrize("strides", [(1, 1), (2, 1)])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_separable_weights_are_separated_exactly(multiplier: int, strides: tuple[int, int]) -> None:
    depthwise, pointwise = random.standard_normal((6, multiplier, 9)), random.standard_normal((16, 6, multiplier))
    weights = np.einsum("ocm,cmk->ock", pointwise, depthwise).reshape(16, 6, 3, 3)
    graph = convolution(weights, strides)
    result, report = rewritten(SeparateConvolutions(multiplier=multiplier), graph)
    assert [(node.op, node.attributes["groups"]) for node in result.nodes] == [("conv", 6), ("conv", 1)]
    assert report.replaced[0].error < 1e-6
    assert graph_statistics(result).macs < graph_statistics(graph).macs
    same(graph, result)


def test_the_error_is_the_best_of_its_rank() -> None:
    weights = random.standard_normal((16, 6, 3, 3))
    _, report = rewritten(SeparateConvolutions(), convolution(weights))
    matrices = weights.astype(np.float32).astype(np.float64).reshape(16, 6, 9).transpose(1, 0, 2)
    values = np.linalg.svd(matrices, compute_uv=False)
    assert report.replaced[0].error == pytest.approx(np.sqrt((values[:, 1:] ** 2).sum() / (values**2).sum()))
    _, strict = rewritten(SeparateConvolutions(tolerance=0.1), convolution(weights))
    assert not strict.replaced and "the weights would change" in strict.left[0].reason


@pytest.mark.parametrize("transpose_b", [False, True])
def test_products_of_low_rank_are_factorized_exactly(transpose_b: bool) -> None:
    weights = random.standard_normal((40, 3)) @ random.standard_normal((3, 30))
    graph = product(weights.T if transpose_b else weights, transpose_b)
    result, report = rewritten(FactorizeLowRank(energy=0.999999), graph)
    assert [node.op for node in result.nodes] == ["matmul", "matmul"]
    assert report.replaced[0].rank == 3 and report.replaced[0].error < 1e-6
    same(graph, result)


@pytest.mark.parametrize("kernel", [1, 3])
def test_convolutions_of_low_rank_are_factorized_exactly(kernel: int) -> None:
    weights = (random.standard_normal((24, 2)) @ random.standard_normal((2, 20 * kernel**2))).reshape(
        24, 20, kernel, kernel
    )
    graph = convolution(weights, (1, 2))
    result, report = rewritten(FactorizeLowRank(energy=0.999999), graph)
    assert [node.op for node in result.nodes] == ["conv", "conv"] and report.replaced[0].rank == 2
    same(graph, result)


def test_energy_and_ratio_bound_the_error() -> None:
    spectrum = np.diag(0.7 ** np.arange(32.0))
    left, right = (np.linalg.qr(random.standard_normal((32, 32)))[0] for _ in range(2))
    graph = product(left @ spectrum @ right)
    for energy in (0.9, 0.99, 0.999):
        result, report = rewritten(FactorizeLowRank(energy=energy), graph)
        assert report.replaced[0].error ** 2 <= 1 - energy + 1e-6
        assert output_error(graph, result) < 3 * report.replaced[0].error
    assert rewritten(FactorizeLowRank(rank_ratio=0.25), graph)[1].replaced[0].rank == 8
    context = PassContext(target=lookup("x86-64-v3"))
    assert rewritten(FactorizeLowRank(rank_ratio=0.2), graph, context)[1].replaced[0].rank == 8


@pytest.mark.parametrize("item", [FactorizeLowRank(rank_ratio=0.5), SeparateConvolutions()])
def test_layers_that_would_not_get_cheaper_stay(item: Any) -> None:
    graph = convolution(random.standard_normal((2, 6, 1, 2))) if item.name.startswith("sep") else product(np.eye(8))
    before = str(graph)
    result, report = rewritten(item, graph)
    assert str(result) == before and "would multiply" in report.left[0].reason


def test_what_else_stays() -> None:
    graph = convolution(random.standard_normal((8, 6, 1, 1)))
    assert rewritten(SeparateConvolutions(), graph)[1].left[0].reason == "its kernel is a point"
    b = Builder("net")
    x, w = b.input("x", "float32[3, 40]"), b.input("w", "float32[40, 40]")
    graph = b.outputs(y=b.matmul(x, w))
    assert rewritten(FactorizeLowRank(), graph)[1].left[0].reason == "its weights are not constant"


def test_rewrite_limit() -> None:
    graph = convolution(random.standard_normal((16, 6, 3, 3)))
    result, report = rewritten(SeparateConvolutions(), graph, PassContext(rewrite_limit=0))
    assert str(result) == str(graph) and not report.replaced


@pytest.mark.parametrize(
    "make",
    [
        lambda: SeparateConvolutions(multiplier=0),
        lambda: SeparateConvolutions(tolerance=0.0),
        lambda: FactorizeLowRank(energy=float("nan")),
        lambda: FactorizeLowRank(rank_ratio=1.5),
        lambda: FactorizeLowRank(energy=0.5, rank_ratio=0.5),
        lambda: FactorizeLowRank(round_to=0),
    ],
)
def test_options_that_make_no_sense(make: Any) -> None:
    with pytest.raises(EdgeIRError):
        make()
