"""The example in a pass's docstring is what the pass does."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import pytest

from edgeir.ir import Graph, parse_graph
from edgeir.passmanager import registered_passes

# The head of the graph that each example leaves out, and the operators of the result.
CASES: dict[str, tuple[str, str, list[str]]] = {
    "canonicalize": ("%x: float32[2, 3, 5]", "", []),
    "fold-constants": ("%x: float32[2]", "y", ["add"]),
    "common-subexpressions": ("%x: float32[4]", "y", ["exp", "add"]),
    "dead-code": ("%x: float32[4]", "", ["relu"]),
    "fold-bias": ("%x: float32[1, 3, 4]", "z", ["conv"]),
    "fold-scale": ("%x: float32[1, 3]", "z", ["matmul"]),
    "fold-pad": ("%x: float32[1, 3, 8, 8], %w: float32[8, 3, 3, 3]", "y", ["conv"]),
    "lower-qdq": ("%q: uint8[1, 2, 4]", "y", ["conv_integer", "dequantize", "quantize"]),
    "fuse-operators": (
        "%x: float32[1, 3, 8, 8], %w: float32[8, 3, 3, 3], %b: float32[8], %y: float32[1, 8, 8, 8]",
        "s",
        ["fused"],
    ),
}
WEIGHTS = {
    "fold-bias": "%w = constant float32[2, 3, 1] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]",
    "lower-qdq": "%w = constant int8[2, 2, 1] [1, -2, 3, 4]\n%s = constant float32[] [0.5]\n"
    "%t = constant float32[] [0.25]\n%u = constant float32[] [0.125]\n%z = constant uint8[] [3]",
    "fold-scale": "%w = constant float32[3, 2] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]",
}


@pytest.mark.parametrize("name", CASES)
def test_example(name: str, run_passes: Callable[..., Graph]) -> None:
    arguments, result, expected = CASES[name]
    module = inspect.getmodule(registered_passes()[name])
    assert module is not None and module.__doc__ is not None
    before = module.__doc__.split("\nbecomes")[0]
    lines = [match[1] for match in re.finditer(r"^    (\S.*)$", before, re.M)]
    lines = [WEIGHTS.get(name, ""), *lines]
    # The printed form has all constants first.
    lines.sort(key=lambda line: "= constant" not in line)
    if not any(line.startswith("return") for line in lines):
        lines.append(f'return "{result}" = %{result}')
    text = f'graph "example" ({arguments}) {{\n' + "\n".join(lines) + "\n}"
    graph = run_passes(name, text)
    assert [node.op for node in graph.nodes] == expected
    assert str(parse_graph(text)) != str(graph)
