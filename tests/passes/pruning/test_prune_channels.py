"""How much goes, which channels, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

import edgeir.passes  # noqa: F401 (registers the operators)
from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Graph
from edgeir.ir.evaluate import evaluate
from edgeir.passes.pruning import prune_channels, removal
from edgeir.passes.pruning.prune_channels import PruneChannels
from edgeir.passmanager import PassContext, Pipeline
from edgeir.targets import lookup
from tests.passes.pruning.masked_channels import assert_equals_masked, macs, prune

WINDOW = {"strides": (1, 1), "padding": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1}


def network(widths: Sequence[int] = (16, 24), size: int = 6, batch: str = "1", seed: int = 0) -> Graph:
    """Convolutions with relu, then an average and a product."""
    random = np.random.default_rng(seed)
    b = Builder("net")
    x = b.input("x", f"float32[{batch}, 3, {size}, {size}]")
    channels = 3
    for number, width in enumerate(widths):
        w = random.standard_normal((width, channels, 3, 3)).astype(np.float32)
        bias = random.standard_normal(width).astype(np.float32)
        x = b.relu(b.conv(x, w, bias, name=f"conv{number}", **WINDOW))
        channels = width
    x = b.reduce_mean(x, axes=(2, 3), keepdims=False)
    return b.outputs(y=b.matmul(x, random.standard_normal((channels, 5)).astype(np.float32), name="head"))


def widths(graph: Graph) -> list[int]:
    return [node.output.type.static_shape[1] for node in graph.nodes if node.op == "conv"]


def samples(count: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    return [{"x": random.standard_normal((1, 3, 6, 6)).astype(np.float32)} for _ in range(count)]


def removed(report: Any, name: str) -> set[int]:
    return set(report.removed.get(name, {}).get(1, ()))


@pytest.mark.parametrize(("score", "power", "root"), [("l1", 1, 1.0), ("l2", 2, 0.5), ("weighted", 3, 1.0)])
def test_norms_of_filters(score: str, power: int, root: float) -> None:
    graph = network()
    _, report = prune(graph, ratio=0.5, score=score)
    weights = graph.value("conv0").producer.input(1).data.astype(np.float64)  # pyright: ignore[reportOptionalMemberAccess]
    expected = (np.abs(weights) ** power).reshape(16, -1).sum(axis=1) ** root
    assert removed(report, "conv0") == set(np.argsort(expected)[:8].tolist())


def test_mean_activation_is_taken_after_the_activation_function() -> None:
    graph = network()
    data = samples(3)
    sums = np.zeros(16)
    relu = graph.value("conv0").users[0].output.name
    for sample in data:
        found: dict[str, np.ndarray] = {}
        evaluate(graph, sample, lambda value, array, into=found: into.update({value.name: array}))
        sums += np.abs(found[relu]).mean(axis=(0, 2, 3))
    _, report = prune(graph, ratio=0.5, score="activation", context=PassContext(calibration=data))
    assert removed(report, "conv0") == set(np.argsort(sums)[:8].tolist())


def test_activations_through_the_execute_service_are_the_same() -> None:
    graph = network()
    plain = prune(graph, score="activation", context=PassContext(calibration=samples(2)))[1]
    calls: list[Graph] = []

    def execute(watched: Graph) -> Any:
        calls.append(watched)
        return lambda sample: evaluate(watched, sample)

    context = PassContext(calibration=samples(2), services={"execute": execute})
    assert prune(graph, score="activation", context=context)[1].removed == plain.removed
    assert len(calls) == 1


@pytest.mark.parametrize("score", ["gradient", "taylor"])
def test_gradients_come_from_a_service(score: str) -> None:
    """Loss Σ y²/2 of a linear network, whose gradients are known in closed form."""
    random = np.random.default_rng(3)
    first, second = (random.standard_normal(shape).astype(np.float32) for shape in ((6, 8), (8, 4)))
    b = Builder("linear")
    x = b.input("x", "float32[2, 6]")
    graph = b.outputs(y=b.matmul(b.matmul(x, first, name="h"), second))
    data = [{"x": random.standard_normal((2, 6)).astype(np.float32)} for _ in range(3)]

    def gradients(
        graph: Graph, names: Sequence[str], samples: Sequence[Mapping[str, np.ndarray]]
    ) -> Iterator[dict[str, tuple[np.ndarray, np.ndarray]]]:
        for sample in samples:
            h = sample["x"] @ first
            y = h @ second
            yield {"h": (h, y @ second.T), graph.outputs[0].name: (y, y)}

    expected = np.zeros(8)
    for sample in data:
        h = sample["x"] @ first
        gradient = h @ second @ second.T
        expected += np.abs(gradient if score == "gradient" else h * gradient).sum(axis=0)
    context = PassContext(calibration=data, services={"gradients": gradients})
    _, report = prune(graph, ratio=0.5, score=score, context=context)
    assert removed(report, "h") == set(np.argsort(expected)[:4].tolist())


@pytest.mark.parametrize(
    ("target", "round_to", "kept"),
    [
        (None, None, [8, 12]),
        ("cortex-a72", None, [8, 12]),
        (None, 8, [8, 16]),
        (None, 5, [10, 10]),
        (None, 32, [16, 24]),
    ],
)
def test_counts_fit_the_vectors(target: str | None, round_to: int | None, kept: list[int]) -> None:
    context = PassContext(target=None if target is None else lookup(target))
    assert widths(prune(network(), ratio=0.5, round_to=round_to, context=context)[0]) == kept


def test_a_layer_is_never_empty() -> None:
    assert widths(prune(network((2, 3)), ratio=0.99, least=0.0)[0]) == [1, 1]
    assert widths(prune(network((20, 30)), ratio=0.99, least=0.2)[0]) == [4, 6]


def test_threshold_and_global_scope() -> None:
    graph = network()
    first = graph.value("conv0").producer
    assert first is not None
    scores = np.abs(first.input(1).data.astype(np.float64)).reshape(16, -1).sum(axis=1)
    threshold = float(np.sort(scores)[5])
    pruned, report = prune(graph, threshold=threshold)
    assert removed(report, "conv0") == set(np.flatnonzero(scores < threshold).tolist())
    assert_equals_masked(graph, pruned, report)
    pruned, report = prune(graph, ratio=0.3, scope="global", least=0.0)
    assert sum(widths(pruned)) == 40 - 12
    assert_equals_masked(graph, pruned, report)


@pytest.mark.parametrize("share", [0.7, 0.5, 0.3])
def test_target_macs_is_met_and_not_by_much(share: float) -> None:
    graph = network((32, 48, 64))
    pruned, report = prune(graph, target_macs=share)
    left = macs(pruned) / macs(graph)
    assert share - 0.05 < left <= share
    assert report.cost == pytest.approx(left)
    assert_equals_masked(graph, pruned, report)


def test_target_macs_takes_what_matters_least() -> None:
    graph = network((32, 32))
    node = graph.value("conv0").producer
    assert node is not None
    weak = node.input(1).data.copy()
    weak[:16] *= 1e-3
    graph.set_input(node, 1, graph.add_constant(weak))
    _, report = prune(graph, target_macs=0.5)
    assert set(range(16)) <= removed(report, "conv0")


def test_target_latency_by_a_measured_cost() -> None:
    """A cost that only the second layer has: only its channels can help."""
    calls: list[str] = []

    def cost(node: Any, inputs: Any, outputs: Any) -> float:
        calls.append(node.op)
        return float(outputs[0].shape[1]) if node.outputs[0].name == "conv1" else 0.0

    context = PassContext(services={"measured-latency": cost})
    assert widths(prune(network(), target_latency=0.5, context=context)[0]) == [16, 12]
    assert calls


def test_target_latency_by_the_roofline() -> None:
    graph = network((64, 64), size=16)
    pruned, report = prune(graph, target_latency=0.6, context=PassContext(target=lookup("x86-64-v3")))
    assert report.cost is not None and 0.4 < report.cost <= 0.6
    assert all(width % 8 == 0 for width in widths(pruned))


def test_an_open_batch_stays_open() -> None:
    graph = network(batch="N")
    pruned, report = prune(graph, target_macs=0.5)
    assert str(pruned.inputs[0].type.shape[0]) == "N"
    bound = {"x": np.random.default_rng(0).standard_normal((3, 3, 6, 6)).astype(np.float32)}
    assert_equals_masked(graph, pruned, report, bound)


def test_chosen_layers_only() -> None:
    assert widths(prune(network(), ratio=0.5, layers=("conv1",))[0]) == [16, 12]


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1.5, math.nan, math.inf])
@pytest.mark.parametrize("name", ["ratio", "target_macs", "target_latency"])
def test_shares_out_of_range(name: str, value: float) -> None:
    with pytest.raises(EdgeIRError, match="above 0 and below 1"):
        PruneChannels(**{name: value})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"threshold": math.nan}, "threshold is out of range"),
        ({"threshold": -1.0}, "threshold is out of range"),
        ({"ratio": 0.5, "target_macs": 0.5}, "several options"),
        ({"round_to": 0}, "round-to"),
        ({"least": 1.0}, "least"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(EdgeIRError, match=reason):
        PruneChannels(**options)


def test_options_as_text() -> None:
    text = "prune-channels{score=taylor,scope=global,target-macs=0.5,round-to=8,layers=[a,b/c]}"
    assert Pipeline(str(Pipeline(text))) == Pipeline(text)
    with pytest.raises(EdgeIRError, match="above 0 and below 1"):
        Pipeline("prune-channels{ratio=nan}")


def refused(graph: Graph, reason: str, context: PassContext | None = None, **options: Any) -> None:
    before = str(graph)
    with pytest.raises(EdgeIRError, match=reason):
        PruneChannels(**options).run(graph, context or PassContext())
    graph.verify()
    assert str(graph) == before


def test_the_layer_that_is_the_output() -> None:
    refused(network(), "output of the graph", layers=("head",))
    b = Builder("single")
    w = np.ones((4, 3, 3, 3), np.float32)
    refused(b.outputs(y=b.conv(b.input("x", "float32[1, 3, 4, 4]"), w, **WINDOW)), "no channel can be removed")


def test_unknown_layer() -> None:
    refused(network(), "did you mean conv0", layers=("conv00",))


def test_target_that_cannot_be_met() -> None:
    refused(network(), "the target cannot be met", target_macs=0.01)


@pytest.mark.parametrize(
    "sample",
    [
        {"x": np.zeros((1, 3, 6), np.float32)},
        {"x": np.zeros((1, 3, 7, 6), np.float32)},
        {"x": np.zeros((1, 3, 6, 6), np.float64)},
        {"other": np.zeros((1, 3, 6, 6), np.float32)},
    ],
)
def test_calibration_data_of_the_wrong_shape(sample: dict[str, np.ndarray]) -> None:
    refused(network(), "calibration data does not fit", PassContext(calibration=[sample]), score="activation")


def test_missing_data_and_services() -> None:
    refused(network(), "no calibration data", score="activation")
    refused(network(), "needs 'gradients'", PassContext(calibration=samples(1)), score="taylor")


def test_gradients_of_the_wrong_shape() -> None:
    def gradients(graph: Graph, names: Sequence[str], data: Sequence[Any]) -> list[Any]:
        return [{name: (np.zeros((1, 2)), np.zeros((1, 2))) for name in names} for _ in data]

    context = PassContext(calibration=samples(1), services={"gradients": gradients})
    refused(network(), "arrays of another shape", context, score="gradient")


def test_weights_that_are_not_finite() -> None:
    graph = network()
    node = graph.value("conv0").producer
    assert node is not None
    broken = node.input(1).data.copy()
    broken[0, 0, 0, 0] = np.nan
    graph.set_input(node, 1, graph.add_constant(broken))
    refused(graph, "not finite")


def test_a_failure_in_the_middle_leaves_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = network()
    before = str(graph)
    copy_node = removal.copy_node
    calls = 0

    def failing(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise RuntimeError("in the middle")
        return copy_node(*arguments)

    monkeypatch.setattr(removal, "copy_node", failing)
    with pytest.raises(RuntimeError, match="in the middle"):
        PruneChannels().run(graph, PassContext())
    graph.verify()
    assert str(graph) == before


def test_sets_that_are_not_coupled_are_refused() -> None:
    graph = network()
    kept = {prune_channels.ChannelAxis(graph.value("conv0"), 1): np.arange(4)}
    with pytest.raises(EdgeIRError):
        removal.without_channels(graph, kept)


def test_rewrite_limit() -> None:
    graph = network()
    pruned, _ = prune(graph, context=PassContext(rewrite_limit=1))
    assert widths(pruned) == [8, 24]
    context = PassContext()
    prune(graph, context=context)
    assert context.rewrites["prune-channels"] == 2


def test_names_stay() -> None:
    graph = network()
    pruned, _ = prune(graph)
    assert [v.name for n in pruned.nodes for v in n.outputs] == [v.name for n in graph.nodes for v in n.outputs]
    assert {v.name for v in pruned.constants} == {v.name for v in graph.constants}
