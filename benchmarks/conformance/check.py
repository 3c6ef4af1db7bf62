"""Runs one case: import, default pipeline, compiled code for this machine, comparison with the expected outputs."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass

import numpy as np
import onnx

from benchmarks.conformance.cases import Case
from edgeir.errors import EdgeIRError
from edgeir.frontend import from_model
from edgeir.ir.evaluate import evaluate
from edgeir.ir.graph import Graph
from edgeir.lowering.build import build
from edgeir.lowering.run import Runner
from edgeir.passes.pipelines import default_pipeline
from edgeir.passmanager import PassContext
from edgeir.targets import lookup

FAILED = ("unsupported", "wrong", "error", "crash", "timeout")


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        outcome: `pass`, `unsupported` (an `EdgeIRError` says so), `wrong` (other outputs, silently), `error` (another
            exception), `crash`, `timeout`, or `out of scope`.
        stage: where it ended: import, passes, lowering, run, compare.
        message: of the failure.
        reference: for failures after import: what comparing the reference evaluation of the imported graph gives,
            which tells a wrong import or definition from a wrong pass or kernel.
        seconds: how long it took.
    """

    outcome: str
    stage: str = ""
    message: str = ""
    reference: str = ""
    seconds: float = 0.0


def check(case: Case) -> Outcome:
    """Runs a case in this process."""
    start = time.perf_counter()
    stage, graph = "import", None
    try:
        model = onnx.ModelProto()
        model.ParseFromString(case.model)
        frozen = {name: case.inputs[0][name] for name in case.frozen if name in case.inputs[0]}
        rest = {name: array.shape for name, array in case.inputs[0].items()}
        graph = from_model(model, rest, freeze=frozen)
        target = lookup("host")
        stage = "passes"
        optimized = graph.copy()
        default_pipeline(target).run(optimized, PassContext(target=target, keep_reproducer=False))
        stage = "lowering"
        runner = Runner(optimized, build(optimized, target))
        stage = "run"
        problem = _first_difference(case, runner)
        outcome, stage, message = ("wrong", "compare", problem) if problem else ("pass", "", "")
    except EdgeIRError as error:
        outcome, message = "unsupported", str(error)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = str(error).strip().splitlines()
        outcome = "error"
        message = f"{type(error).__name__}: {text[-1] if text else ''} ({place.filename}:{place.lineno})"
    reference = ""
    if outcome != "pass" and graph is not None:
        reference = _reference(case, graph)
    return Outcome(outcome, stage, message, reference, time.perf_counter() - start)


def _reference(case: Case, graph: Graph) -> str:
    try:
        return _first_difference(case, lambda inputs: evaluate(graph, inputs)) or "agrees"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _first_difference(case: Case, run: object) -> str:
    """Why the outputs of a function differ from the expected ones; "" if they do not."""
    for given, expected in zip(case.inputs, case.outputs, strict=True):
        inputs = {name: array for name, array in given.items() if name not in case.frozen}
        results = list(run(inputs).values())  # type: ignore[operator]
        if len(results) != len(expected):
            return f"{len(results)} outputs, expected {len(expected)}"
        for position, (found, wanted) in enumerate(zip(results, expected, strict=True)):
            problem = difference(found, wanted, case.rtol, case.atol)
            if problem:
                return f"output {position}: {problem}"
    return ""


def difference(found: np.ndarray, expected: np.ndarray, rtol: float, atol: float) -> str:
    """Why two arrays differ: dtype and shape exactly, integers and bools exactly, floats by the tolerances.

    float16 and bfloat16 results may be two units in the last place off (the onnx package's own rule for bfloat16).
    float32 results may be off by two units in the last place of the largest one: sums that cancel, as in an inverse
    Fourier transform, leave noise of that size in the expected outputs themselves.
    """
    if found.dtype != expected.dtype:
        return f"dtype {found.dtype}, expected {expected.dtype}"
    if found.shape != expected.shape:
        return f"shape {list(found.shape)}, expected {list(expected.shape)}"
    if "float" not in expected.dtype.name:
        wrong = np.asarray(found != expected)
    else:
        units = {"float16": 2.0**-9, "bfloat16": 2.0**-6}.get(expected.dtype.name, 0.0)
        a, b = found.astype(np.float64), expected.astype(np.float64)
        largest = float(np.max(np.abs(b), initial=0.0, where=np.isfinite(b)))
        noise = largest * 2.0**-22 if expected.dtype == np.float32 else 0.0
        wrong = ~np.isclose(a, b, rtol=max(rtol, units), atol=max(atol, noise), equal_nan=True)
    if not wrong.any():
        return ""
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    shown = f"{found[index]}, expected {expected[index]} at {list(index)}"
    return f"{int(wrong.sum())} of {wrong.size} elements: {shown}"
