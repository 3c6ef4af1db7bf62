"""Removing channels equals zeroing what their consumers make of them: on random networks and on the real models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeir.passes  # noqa: F401 (registers the passes)
from edgeir.errors import EdgeIRError
from edgeir.frontend import load
from edgeir.ir import Builder, Graph, Value
from edgeir.ir.evaluate import evaluate
from edgeir.lowering.build import build
from edgeir.lowering.run import Runner
from edgeir.passes.pipelines import default_pipeline, simplification_pipeline
from edgeir.passes.pruning.prune_weights import PruneWeights, weight_masks
from edgeir.passes.pruning.report import batch_of_one, totals
from edgeir.passmanager import PassContext, example_inputs
from edgeir.targets import lookup
from tests.passes.pruning.masked_channels import assert_equals_masked, macs, masked, prune
from tests.strategies import Draw, assert_outputs_close, graphs, random_inputs

RATIOS = st.sampled_from([0.1, 0.3, 0.5, 0.7])
SIZE = 4


class _Network:
    """A convolutional network that grows step by step; every value is (1, channels, 4, 4)."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.b = Builder("network")
        self.random = np.random.default_rng(draw(st.integers(0, 1000)))
        self.pool: list[Value] = [self.b.input("x", f"float32[1, {draw(st.integers(2, 5))}, {SIZE}, {SIZE}]")]

    def weight(self, *shape: int) -> np.ndarray:
        return (self.random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    def any(self) -> Value:
        return self.draw(st.sampled_from(self.pool))

    def conv(self, x: Value, outputs: int, groups: int = 1) -> Value:
        kernel = self.draw(st.sampled_from([1, 3]))
        w = self.weight(outputs, channels(x) // groups, kernel, kernel)
        operands = [x, w, self.weight(outputs)] if self.draw(st.booleans()) else [x, w]
        padding = (kernel // 2,) * 4
        return self.b.conv(*operands, strides=(1, 1), padding=padding, dilations=(1, 1), groups=groups)

    def activation(self, x: Value) -> Value:
        match self.draw(st.integers(0, 4)):
            case 0:
                return self.b.relu(x)
            case 1:
                return self.b.sigmoid(x)
            case 2:
                gate = self.b.clip(self.b.add(x, np.float32(3)), minimum=0.0, maximum=6.0)
                return self.b.mul(x, self.b.div(gate, np.float32(6)))
            case 3:
                return self.b.mul(x, self.weight(channels(x), 1, 1))
        return x

    def plain(self) -> Value:
        return self.activation(self.conv(self.any(), self.draw(st.integers(2, 12))))

    def depthwise(self) -> Value:
        x = self.any()
        return self.activation(self.conv(x, channels(x) * self.draw(st.integers(1, 2)), channels(x)))

    def grouped(self) -> Value:
        groups = self.draw(st.sampled_from([2, 3]))
        x = self.conv(self.any(), groups * self.draw(st.integers(1, 4)))
        return self.conv(x, groups * self.draw(st.integers(1, 4)), groups)

    def residual(self) -> Value:
        x = self.any()
        y = self.activation(self.conv(self.conv(x, self.draw(st.integers(2, 8))), channels(x)))
        return self.b.add(x, y)

    def joined(self) -> Value:
        return self.b.concat(*(self.any() for _ in range(self.draw(st.integers(2, 3)))), axis=1)

    def split(self) -> Value:
        x = self.any()
        start = self.draw(st.integers(0, channels(x) - 1))
        size = self.draw(st.integers(1, channels(x) - start))
        return self.b.slice(x, starts=(0, start, 0, 0), sizes=(1, size, SIZE, SIZE), steps=(1, 1, 1, 1))

    def shuffled(self) -> Value:
        groups, each = self.draw(st.integers(2, 3)), self.draw(st.integers(1, 5))
        x = self.b.reshape(self.conv(self.any(), groups * each), shape=(1, groups, each, SIZE, SIZE))
        x = self.b.transpose(x, perm=(0, 2, 1, 3, 4))
        return self.b.reshape(x, shape=(1, groups * each, SIZE, SIZE))

    def excited(self) -> Value:
        x = self.any()
        s = self.b.reduce_mean(x, axes=(2, 3), keepdims=True)
        return self.b.mul(x, self.b.sigmoid(self.conv(self.b.relu(self.conv(s, 3)), channels(x))))

    def padded(self) -> Value:
        return self.b.pad(self.any(), None, padding=(0, self.draw(st.integers(0, 3)), 0, 0, 0, 2, 0, 0))

    def mixed(self) -> Value:
        """Attention over positions, with heads of the channels."""
        heads, each = self.draw(st.integers(1, 3)), self.draw(st.integers(1, 3))
        value = self.any()
        x = self.b.transpose(self.b.reshape(value, shape=(1, channels(value), 16)), perm=(0, 2, 1))

        def projected() -> Value:
            y = self.b.matmul(x, self.weight(channels(value), heads * each))
            return self.b.transpose(self.b.reshape(y, shape=(1, 16, heads, each)), perm=(0, 2, 1, 3))

        scores = self.b.softmax(self.b.matmul(projected(), projected(), transpose_b=True), axis=3)
        y = self.b.transpose(self.b.matmul(scores, projected()), perm=(0, 2, 1, 3))
        y = self.b.transpose(self.b.reshape(y, shape=(1, 16, heads * each)), perm=(0, 2, 1))
        return self.b.reshape(y, shape=(1, heads * each, SIZE, SIZE))

    def finish(self) -> Graph:
        last = self.conv(self.pool[-1], 6)
        flat = self.b.reshape(self.b.relu(last), shape=(1, 6 * 16))
        head = self.b.matmul(flat, self.weight(96, 3))
        others = {"extra": self.any()} if self.draw(st.booleans()) and len(self.pool) > 1 else {}
        graph = self.b.outputs(y=head, **others)
        graph.verify()
        return graph


def channels(value: Value) -> int:
    return value.type.static_shape[1]


STEPS: tuple[Callable[[_Network], Value], ...] = (
    _Network.plain,
    _Network.plain,
    _Network.depthwise,
    _Network.grouped,
    _Network.residual,
    _Network.joined,
    _Network.split,
    _Network.shuffled,
    _Network.excited,
    _Network.padded,
    _Network.mixed,
)


@st.composite
def networks(draw: Draw, most: int = 7) -> Graph:
    """Convolutional networks with residuals, concats, splits, groups, shuffles, gates, attention and reshapes."""
    network = _Network(draw)
    for _ in range(draw(st.integers(1, most))):
        network.pool.append(draw(st.sampled_from(STEPS))(network))
    return network.finish()


def prune_or_explain(graph: Graph, **options: Any) -> None:
    """Either the pruned graph equals the masked one, or there is a reason and nothing changed."""
    before = str(graph)
    try:
        pruned, report = prune(graph, **options)
    except EdgeIRError as error:
        assert "no channel can be removed" in str(error) or "the target cannot be met" in str(error), error
        assert str(graph) == before
        return
    assert str(graph) == before
    assert_equals_masked(graph, pruned, report)
    if report.removed:
        assert totals(pruned).parameters < totals(graph).parameters
        for axes in report.removed.values():
            assert all(axes.values())


@given(graph=networks(), ratio=RATIOS, scope=st.sampled_from(["uniform", "global"]), block=st.sampled_from([1, 1, 4]))
@settings(max_examples=120)
def test_networks(graph: Graph, ratio: float, scope: str, block: int) -> None:
    prune_or_explain(graph, ratio=ratio, scope=scope, round_to=block, least=0.0)


@given(graph=networks(), share=st.sampled_from([0.3, 0.6, 0.9]))
@settings(max_examples=40)
def test_networks_to_a_cost(graph: Graph, share: float) -> None:
    prune_or_explain(graph, target_macs=share, least=0.0)


@given(graph=graphs(most_nodes=14, floats_only=True), ratio=RATIOS)
@settings(max_examples=100)
def test_any_graph(graph: Graph, ratio: float) -> None:
    """Graphs of all operators, where channels mostly must stay."""
    prune_or_explain(graph, ratio=ratio, least=0.0)


@given(graph=networks(most=4), ratio=RATIOS)
@settings(max_examples=5)
def test_pruned_networks_compile(graph: Graph, ratio: float) -> None:
    try:
        pruned, report = prune(graph, ratio=ratio, least=0.0)
    except EdgeIRError:
        return
    compiled_equals(pruned, evaluate(masked(graph, report.removed), random_inputs(graph)))


@given(graph=networks(), ratio=RATIOS)
@settings(max_examples=20)
def test_weights(graph: Graph, ratio: float) -> None:
    before = {value.name: value.data for value in graph.constants}
    pruned = graph.copy()
    PruneWeights(ratio=ratio).run(pruned, PassContext())
    pruned.verify()
    masks = weight_masks(pruned)
    assert {value.name: value.type for value in pruned.constants} == {v.name: v.type for v in graph.constants}
    for value in pruned.constants:
        assert np.array_equal(value.data, np.where(masks.get(value.name, True), before[value.name], 0))


def compiled_equals(graph: Graph, expected: dict[str, np.ndarray]) -> None:
    target = lookup("host").with_cores(1)
    optimized = graph.copy()
    default_pipeline(target).run(optimized, PassContext(target=target, keep_reproducer=False))
    found = Runner(optimized, build(optimized, target))(random_inputs(graph))
    assert_outputs_close(found, expected, rtol=1e-3, atol=1e-4)


SHAPES = {
    "ppocrv4_det": {"x": (1, 3, 64, 64)},
    "ppocr_cls": {"x": (1, 3, 48, 96)},
    "minilm_l6_int8": {name: (1, 8) for name in ("input_ids", "attention_mask", "token_type_ids")},
}
MODELS = (
    "efficientnet_lite0",
    "fmnist_cnn",
    "minilm_l6_int8",
    "mnist_cnn",
    "open_nsfw_resnet50thin",
    "ppocr_cls",
    "ppocrv4_det",
    "silero_vad_16k_static",
)


@pytest.fixture(scope="module")
def model(shared_models: Path, request: pytest.FixtureRequest) -> Graph:
    graph = load(shared_models / f"{request.param}.onnx", SHAPES.get(request.param))
    graph = graph.bind(batch_of_one(graph))
    simplification_pipeline().run(graph, PassContext(verify=False))
    return graph


SMALL = ("fmnist_cnn", "mnist_cnn", "silero_vad_16k_static", "ppocr_cls")


@pytest.mark.parametrize(
    ("model", "ratio"),
    [
        pytest.param(name, ratio, marks=[] if name in SMALL and ratio == 0.5 else [pytest.mark.slow])
        for name in MODELS
        for ratio in (0.1, 0.3, 0.5, 0.7)
    ],
    indirect=["model"],
)
def test_real_models(model: Graph, ratio: float) -> None:
    pruned, report = prune(model, ratio=ratio, least=0.0)
    assert macs(pruned) < macs(model)
    assert_equals_masked(model, pruned, report, example_inputs(model))


@pytest.mark.parametrize("model", ["fmnist_cnn", pytest.param("ppocr_cls", marks=pytest.mark.slow)], indirect=True)
def test_pruned_models_compile(model: Graph) -> None:
    pruned, report = prune(model, ratio=0.5)
    compiled_equals(pruned, evaluate(masked(model, report.removed), random_inputs(model)))
