"""Zeros in weights: which, how many, in which pattern, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import edgeir.passes  # noqa: F401 (registers the operators)
from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Graph
from edgeir.passes.pruning.prune_weights import PruneWeights, weight_masks
from edgeir.passes.pruning.report import REPORT, WeightReport
from edgeir.passmanager import PassContext, Pipeline
from edgeir.targets import lookup

WINDOW = {"strides": (1, 1), "padding": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1}


def network(seed: int = 0, small: float = 1.0) -> Graph:
    random = np.random.default_rng(seed)
    b = Builder("net")
    w = b.constant(random.standard_normal((8, 4, 3, 3)).astype(np.float32), "w")
    x = b.relu(b.conv(b.input("x", "float32[1, 4, 5, 5]"), w, **WINDOW))
    v = b.constant((small * random.standard_normal((12, 200))).astype(np.float32), "v")
    return b.outputs(y=b.matmul(b.reshape(x, shape=(1, 200)), v, transpose_b=True))


def prune(graph: Graph, context: PassContext | None = None, **options: Any) -> tuple[Graph, WeightReport]:
    reports: list[WeightReport] = []
    pruned = graph.copy()
    context = context or PassContext()
    context.services = {REPORT: reports.append}
    PruneWeights(**options).run(pruned, context)
    pruned.verify()
    return pruned, reports[0]


def arrays(graph: Graph) -> dict[str, np.ndarray]:
    return {value.name: value.data for value in graph.constants}


@pytest.mark.parametrize("score", ["l1", "l2", "weighted"])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_ratio_of_every_tensor(score: str, ratio: float) -> None:
    graph = network()
    pruned, report = prune(graph, ratio=ratio, score=score)
    for name, before in arrays(graph).items():
        after = arrays(pruned)[name]
        kept = report.masks[name]
        assert (~kept).sum() == round(ratio * before.size)
        assert np.array_equal(after, np.where(kept, before, 0))
        assert np.abs(before[~kept]).max() <= np.abs(before[kept]).min()


def test_global_ratio_takes_from_where_weights_are_small() -> None:
    graph = network(small=1e-3)
    pruned, _ = prune(graph, ratio=0.5, scope="global")
    zeros = {name: int((array == 0).sum()) for name, array in arrays(pruned).items()}
    assert sum(zeros.values()) == round(0.5 * (288 + 2400)) and zeros["w"] == 0


def test_adaptive_ratio_does_not_depend_on_the_scale_of_a_tensor() -> None:
    zeros = []
    for small in (1.0, 1e-3):
        pruned, _ = prune(network(small=small), ratio=0.5, scope="adaptive", score="l2")
        zeros.append({name: array == 0 for name, array in arrays(pruned).items()})
    assert sum(int(mask.sum()) for mask in zeros[0].values()) == round(0.5 * (288 + 2400))
    assert all(np.array_equal(zeros[0][name], zeros[1][name]) for name in zeros[0])


def test_adaptive_scores_are_shares_of_what_would_be_left() -> None:
    b = Builder("net")
    w = b.constant(np.array([[3.0, 1.0, -2.0]], np.float32), "w")
    v = b.constant(np.array([[10.0, 10.0, 10.0]], np.float32), "v")
    y = b.matmul(b.matmul(b.input("x", "float32[1, 3]"), w, transpose_b=True), v)
    # w²: 9/9, 1/14, 4/13; v²: 100/100, 100/200, 100/300.
    pruned, _ = prune(b.outputs(y=y), ratio=0.5, scope="adaptive", score="l2")
    assert np.array_equal(arrays(pruned)["w"] == 0, [[False, True, True]])
    assert int((arrays(pruned)["v"] == 0).sum()) == 1
    emptied, _ = prune(b.outputs(y=y), ratio=0.66, scope="adaptive", score="l2")
    assert all(array.any() for array in arrays(emptied).values())


def test_threshold_is_of_the_score() -> None:
    graph = network()
    for score, limit in (("l1", 0.5), ("l2", 0.25), ("weighted", 0.125)):
        pruned, _ = prune(graph, threshold=limit, score=score)
        for name, before in arrays(graph).items():
            assert np.array_equal(arrays(pruned)[name] == 0, np.abs(before) < 0.5)


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 7)])
def test_n_of_m_lies_along_the_input_channels(n: int, m: int) -> None:
    graph = network()
    pruned, _ = prune(graph, pattern=f"{n}:{m}")
    before, after = arrays(graph)["v"], arrays(pruned)["v"]
    for row, whole in zip(after, before, strict=True):
        for start in range(0, 200, m):
            part, original = row[start : start + m], np.abs(whole[start : start + m])
            assert (part != 0).sum() == min(n, len(part))
            assert np.abs(part).sum() == pytest.approx(np.sort(original)[-n:].sum())
    # conv: four input channels at every position of every filter.
    counts = (arrays(pruned)["w"] != 0).sum(axis=1)
    if m == 4:
        assert (counts == n).all()


@pytest.mark.parametrize("block", [4, 5])
def test_blocks_are_neighbouring_output_channels(block: int) -> None:
    graph = network()
    pruned, report = prune(graph, ratio=0.5, pattern="block", block=block)
    for name, mask in report.masks.items():
        for start in range(0, mask.shape[0], block):
            part = mask[start : start + block]
            assert np.array_equal(part, np.broadcast_to(part[:1], part.shape)), name
    assert 0.3 < (arrays(pruned)["v"] == 0).mean() < 0.7


def test_blocks_are_the_target_s_lanes() -> None:
    graph = network()
    context = PassContext(target=lookup("cortex-a72"))
    with_target = prune(graph, context, pattern="block")[1]
    explicit = prune(graph, pattern="block", block=4)[1]
    assert all(np.array_equal(with_target.masks[name], mask) for name, mask in explicit.masks.items())
    with pytest.raises(EdgeIRError, match="no target"):
        prune(graph, pattern="block")


def test_the_zeros_tell_the_mask() -> None:
    pruned, report = prune(network(), ratio=0.7)
    found = weight_masks(pruned)
    assert found.keys() == report.masks.keys() == {"w", "v"}
    assert all(np.array_equal(found[name], mask) for name, mask in report.masks.items())
    assert weight_masks(network()) == {}


def test_shared_weights_stay_shared() -> None:
    b = Builder("shared")
    w = b.constant(np.arange(1, 17, dtype=np.float32).reshape(4, 4), "w")
    graph = b.outputs(y=b.matmul(b.matmul(b.input("x", "float32[1, 4]"), w), w))
    pruned, _ = prune(graph, ratio=0.5)
    (value,) = pruned.constants
    assert value.use_count == 2 and (value.data == 0).sum() == 8


def test_weights_that_something_else_reads_stay() -> None:
    b = Builder("tied")
    w = b.constant(np.ones((4, 4), np.float32), "w")
    graph = b.outputs(y=b.add(b.matmul(b.input("x", "float32[1, 4]"), w), b.reduce_sum(w, axes=(0,))))
    before = str(graph)
    with pytest.raises(EdgeIRError, match="other operators read its weights"):
        PruneWeights().run(graph, PassContext())
    assert str(graph) == before


def test_weights_that_are_not_finite_leave_the_graph() -> None:
    graph = network()
    node = graph.outputs[0].producer
    assert node is not None
    graph.set_input(node, 1, graph.add_constant(np.full((12, 200), np.inf, np.float32)))
    before = str(graph)
    with pytest.raises(EdgeIRError, match="not finite"):
        PruneWeights().run(graph, PassContext())
    assert str(graph) == before


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"ratio": 0.0}, "ratio is out of range"),
        ({"ratio": 1.0}, "ratio is out of range"),
        ({"ratio": float("nan")}, "ratio is out of range"),
        ({"ratio": -0.5}, "ratio is out of range"),
        ({"threshold": -1.0}, "threshold is out of range"),
        ({"pattern": "4:4"}, "keeps everything"),
        ({"pattern": "checkered"}, "unknown pattern"),
        ({"pattern": "2:4", "ratio": 0.5}, "several options"),
        ({"block": 4}, "block is out of range"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(EdgeIRError, match=reason):
        PruneWeights(**options)


def test_options_as_text() -> None:
    for text in ("prune-weights{pattern=2:4,score=l2}", "prune-weights{ratio=0.9,scope=global}"):
        assert Pipeline(str(Pipeline(text))) == Pipeline(text)
