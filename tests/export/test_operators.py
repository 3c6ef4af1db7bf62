"""Every operator, exported and run by an independent engine, against its reference evaluation."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest

from edgeir.errors import EdgeIRError
from edgeir.export import to_onnx
from edgeir.export.registry import exported_ops
from edgeir.ir import Graph, Value
from edgeir.ir.evaluate import evaluate
from edgeir.ir.op import registered_ops
from tests.export.onnx_engines import Engine, run_onnxruntime, run_reference
from tests.lowering.op_case import OpCase
from tests.lowering.op_cases import all_cases
from tests.lowering.test_compute import add_case, assert_close

CASES = all_cases()
GROUPS = {op: [case for case in CASES if case.op == op] for op in dict.fromkeys(case.op for case in CASES)}

# Inlined, dropped, or made of kernels' own constants: not operators of ONNX.
NOT_EXPORTED = {"fused", "layout_cast"}

# ONNX Runtime takes NaN for an ordinary number here, or −inf for the least float; ONNX's reference does not.
OTHER_NAN = {
    *("clip-upper", "reduce_max-special", "reduce_min-special"),
    *("arg_max-special", "arg_max-special-last", "arg_min-special", "arg_min-special-last"),
}

# Neither engine runs them: ONNX Runtime's Python binding has no 4-bit tensors and it has no float64 transposed
# convolution; the reference wraps infinity into 4 bits and fails on this transposed convolution.
IN_NO_ENGINE = {
    *("cast-int4-uint4", "cast-uint4-int4", "quantize-int4-edges", "quantize-uint4-edges"),
    *("conv_transpose-float64", "conv_transpose-bfloat16"),
}

# Both compute in the element type itself, or round the last digit differently.
TOLERANCE = {"float16": 2e-3, "bfloat16": 1e-2}


def exported_case(case: OpCase) -> tuple[Graph, dict[str, np.ndarray]]:
    graph, inputs, outputs = Graph("case"), {}, list[tuple[str, Value]]()
    add_case(graph, inputs, case, 0, outputs)
    graph.set_outputs([(f"y{index}", value) for index, (_, value) in enumerate(outputs)])
    return graph, inputs


def check(case: OpCase) -> str:
    """The engine that confirmed the case, or "" where ONNX has no form of it."""
    graph, inputs = exported_case(case)
    try:
        model = to_onnx(graph)
    except EdgeIRError:
        assert case.op == "bit_cast"
        return ""
    onnx.checker.check_model(model)
    # What NaN and numbers beyond int32 become, ONNX leaves open.
    if str(case) in IN_NO_ENGINE or (case.op == "quantize" and "unit-special" in case.label):
        return ""
    expected = evaluate(graph, inputs)
    engines: list[Engine] = [] if str(case) in OTHER_NAN or "int4" in str(case) else [run_onnxruntime]
    for engine in (*engines, run_reference):
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                got = engine(model, inputs)
        except Exception:  # an engine without this kernel raises types of its own
            if engine is run_reference:
                raise
            continue
        for name, wanted in expected.items():
            exotic = got[name].dtype != wanted.dtype and got[name].dtype.itemsize == wanted.dtype.itemsize
            array = got[name].view(wanted.dtype) if exotic else got[name]
            least = TOLERANCE.get(wanted.dtype.name, 1e-5)
            assert_close(array, wanted, max(case.tolerance, least) if "float" in wanted.dtype.name else 0)
        return engine.__name__
    raise AssertionError("no engine ran")


@pytest.mark.parametrize("op", sorted(set(GROUPS) - NOT_EXPORTED))
def test_exported_operator_agrees_with_its_definition(op: str) -> None:
    problems = []
    for case in GROUPS[op]:
        try:
            check(case)
        except Exception as error:  # all cases of an operator are told
            problems.append(f"{case}: {type(error).__name__} {error}")
    assert not problems, "\n".join(problems)


def test_most_cases_run_in_onnxruntime() -> None:
    engines = [check(case) for case in CASES if case.op in ("add", "conv", "softmax", "slice", "reduce_sum")]
    assert engines.count("run_onnxruntime") > len(engines) / 2


def test_every_operator_has_an_exporter() -> None:
    assert {op.name for op in registered_ops()} - exported_ops() == NOT_EXPORTED


def test_bits_of_floats_are_refused_with_the_place() -> None:
    case = next(case for case in GROUPS["bit_cast"] if case.label == "float32")
    graph, _ = exported_case(case)
    with pytest.raises(EdgeIRError, match=r"bit_cast cannot be exported to ONNX"):
        to_onnx(graph)
