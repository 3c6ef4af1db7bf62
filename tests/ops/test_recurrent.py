from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeir.errors import TypeInferenceError
from edgeir.ops.operands import present
from tests.ops.onnx_cases import infer, node_case, run, run_onnx

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
DEFAULTS = {"lstm": ["sigmoid", "tanh", "tanh"], "gru": ["sigmoid", "tanh"], "rnn": ["tanh"]}
RESULTS = {"lstm": 3, "gru": 2, "rnn": 2}
NODE_CASES = [f"lstm_{n}" for n in ("defaults", "with_initial_bias", "with_peepholes", "reverse", "bidirectional")]
NODE_CASES += [f"gru_{n}" for n in ("defaults", "with_initial_bias", "seq_length", "reverse", "bidirectional")]
NODE_CASES += [f"simple_rnn_{n}" for n in ("defaults", "with_initial_bias", "reverse", "bidirectional")]
NODE_CASES += ["rnn_seq_length"]


@pytest.mark.parametrize("name", NODE_CASES)
def test_onnx_node_cases(name: str) -> None:
    case = node_case(name)
    op = case.op_type.lower()
    direction = case.attributes.get("direction", "forward")
    count = 2 if direction == "bidirectional" else 1
    results = run(op, case.inputs, {**case.attributes, "activations": DEFAULTS[op] * count})
    wanted = iter(case.expected)
    for output, result in zip(case.outputs, results, strict=False):
        if output:
            np.testing.assert_allclose(result, next(wanted), rtol=case.rtol, atol=1e-5)
    assert next(wanted, None) is None


def random_inputs(op: str, count: int, rng: np.random.Generator, optional: bool) -> list[np.ndarray | None]:
    steps, batch, size, hidden = 5, 3, 4, 6
    rows = GATES[op] * hidden

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    inputs: list[np.ndarray | None] = [
        normal(steps, batch, size),
        normal(count, rows, size),
        normal(count, rows, hidden),
    ]
    if optional:
        inputs += [normal(count, 2 * rows), np.array([5, 2, 4], np.int32), normal(count, batch, hidden)]
        if op == "lstm":
            inputs += [normal(count, batch, hidden), normal(count, 3 * hidden)]
    return inputs


def compare(op: str, inputs: list[np.ndarray | None], onnx_attributes: dict[str, Any], own: dict[str, Any]) -> None:
    count = 2 if onnx_attributes.get("direction") == "bidirectional" else 1
    base: dict[str, Any] = {"hidden_size": 6, "activations": DEFAULTS[op] * count}
    expected = run_onnx(op.upper(), inputs, {"hidden_size": 6, **onnx_attributes}, RESULTS[op], opset=14, runtime=True)
    results = run(op, inputs, {**base, **own})
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("optional", [False, True])
def test_against_onnxruntime(op: str, direction: str, optional: bool) -> None:
    rng = np.random.default_rng(11)
    inputs = random_inputs(op, 2 if direction == "bidirectional" else 1, rng, optional)
    compare(op, inputs, {"direction": direction}, {"direction": direction})


@pytest.mark.parametrize("op", ["lstm", "gru", "rnn"])
def test_clip_against_onnxruntime(op: str) -> None:
    inputs = random_inputs(op, 1, np.random.default_rng(12), True)
    compare(op, inputs, {"clip": 0.5}, {"clip": 0.5})


def test_input_forget_against_onnxruntime() -> None:
    inputs = random_inputs("lstm", 1, np.random.default_rng(13), True)[:7]
    compare("lstm", inputs, {"input_forget": 1}, {"input_forget": True})


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_linear_before_reset_against_onnxruntime(direction: str) -> None:
    inputs = random_inputs("gru", 2 if direction == "bidirectional" else 1, np.random.default_rng(14), True)
    compare(
        "gru",
        inputs,
        {"linear_before_reset": 1, "direction": direction},
        {"linear_before_reset": True, "direction": direction},
    )


@pytest.mark.parametrize(
    "name",
    [
        "Relu",
        "Tanh",
        "Sigmoid",
        "Affine",
        "LeakyRelu",
        "ThresholdedRelu",
        "ScaledTanh",
        "HardSigmoid",
        "Elu",
        "Softsign",
        "Softplus",
    ],
)
def test_activations_against_onnxruntime(name: str) -> None:
    inputs = random_inputs("rnn", 1, np.random.default_rng(15), True)
    # A tame recurrence: onnxruntime's softplus overflows.
    inputs[2] = present(inputs, 2) / 4
    given: dict[str, Any] = {"activations": [name]}
    if name in ("Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu"):
        given["activation_alpha"] = [0.3]
    if name in ("Affine", "ScaledTanh", "HardSigmoid"):
        given["activation_beta"] = [0.4]
    compare("rnn", inputs, given, {**given, "activations": [name.lower()]})


def test_activation_parameters_go_to_functions_that_take_them() -> None:
    inputs = random_inputs("gru", 2, np.random.default_rng(16), True)
    names = ["HardSigmoid", "Tanh", "Sigmoid", "LeakyRelu"]
    given = {"activations": names, "activation_alpha": [0.3, 0.2], "activation_beta": [0.4]}
    own = {**given, "activations": [name.lower() for name in names], "direction": "bidirectional"}
    compare("gru", inputs, {**given, "direction": "bidirectional"}, own)


@pytest.mark.parametrize("op", ["lstm", "gru", "rnn"])
def test_inference(op: str) -> None:
    rows = 8 * GATES[op]
    types = ["float32[T, B, 4]", f"float32[1, {rows}, 4]", f"float32[1, {rows}, 8]"]
    attributes = {"hidden_size": 8, "activations": DEFAULTS[op]}
    last = ["float32[1, B, 8]"] * (RESULTS[op] - 1)
    assert infer(op, types, attributes) == ["float32[T, 1, B, 8]", *last]


@pytest.mark.parametrize(
    ("types", "attributes", "message"),
    [
        (["float32[T, B, 4]", "float32[1, 8, 5]", "float32[1, 8, 8]"], {}, "w has the wrong shape"),
        (["float32[T, B, 4]", "float32[2, 8, 4]", "float32[1, 8, 8]"], {}, "w has the wrong shape"),
        (["float32[T, B, 4]", "float32[1, 8, 4]", "float16[1, 8, 8]"], {}, "element types"),
        (["float32[T, 4]", "float32[1, 8, 4]", "float32[1, 8, 8]"], {}, "wrong rank"),
        (
            ["float32[T, B, 4]", "float32[1, 8, 4]", "float32[1, 8, 8]"],
            {"activations": ["swish"]},
            "unknown activation",
        ),
        (["float32[T, B, 4]", "float32[1, 8, 4]", "float32[1, 8, 8]"], {"activations": []}, "wrong length"),
        (["float32[T, B, 4]", "float32[1, 8, 4]", "float32[1, 8, 8]"], {"clip": -1.0}, "unusable clip"),
    ],
)
def test_refuses(types: list[str], attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeInferenceError, match=message):
        infer("rnn", types, {"hidden_size": 8, "activations": ["tanh"], **attributes})


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_inputs_that_have_been_multiplied(op: str, direction: str) -> None:
    count = 2 if direction == "bidirectional" else 1
    inputs = random_inputs(op, count, np.random.default_rng(14), True)
    attributes = {"hidden_size": 6, "activations": DEFAULTS[op] * count, "direction": direction}
    x, w = present(inputs, 0), present(inputs, 1)
    product = np.concatenate([x @ w[d].T for d in range(count)], axis=2)
    for result, wanted in zip(
        run(op, [product, None, *inputs[2:]], attributes), run(op, inputs, attributes), strict=True
    ):
        np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-6)
    with pytest.raises(TypeInferenceError, match="product with all gates"):
        run(op, [x, None, *inputs[2:]], attributes)
