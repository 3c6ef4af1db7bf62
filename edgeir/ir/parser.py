"""Reads graphs from the text that `print_graph` writes. Nothing is evaluated: the grammar is all there is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir.dims import parse_dim
from edgeir.ir.dtype import INTEGERS, numpy_dtype
from edgeir.ir.graph import Graph
from edgeir.ir.op import Attribute, Kind, find_op
from edgeir.ir.types import TensorType, parse_type
from edgeir.ir.values import Value

T = TypeVar("T")
DEEPEST_BODY = 16
_TOKEN = re.compile(
    r'\s+|(?P<token>"(?:[^"\\]|\\.)*"|%(?:"(?:[^"\\]|\\.)*"|[\w.\-/]+)|sha256:[0-9a-f]+|[\w.]+|//|.)', re.S
)
_TYPE = re.compile(r"\s*(\w+\[[^\]]*\](?:\{\w+\})?)")
_NUMBER = re.compile(r"\s*([-+]?(?:inf|nan|\d+(?:\.\d*)?(?:[eE][-+]?\d+)?))")


def parse_graph(text: str, constants: Mapping[str, np.ndarray] | None = None) -> Graph:
    """Reads a graph.

    Args:
        text: as printed by `str(graph)`.
        constants: arrays of the constants that stand in the text by hash, by `Value.digest`.

    Raises:
        EdgeIRError: the text does not follow the grammar, a constant's array is missing or has another hash, or the
            graph is not valid. The message gives the line.
    """
    parser = _Parser(text, constants or {})
    graph = parser.graph()
    parser.end()
    graph.verify()
    return graph


class _Parser:
    def __init__(self, text: str, constants: Mapping[str, np.ndarray]) -> None:
        self.text = text
        self.position = 0
        self.depth = 0
        self.constants = constants

    # Tokens

    def error(self, expected: str) -> EdgeIRError:
        line = self.text.count("\n", 0, self.position) + 1
        got = self.text[self.position : self.position + 30].split("\n")[0]
        return EdgeIRError("not IR text", where=f"line {line}", expected=expected, got=repr(got))

    def _scan(self) -> tuple[str, int]:
        position = self.position
        while match := _TOKEN.match(self.text, position):
            position = match.end()
            if match["token"] is not None:
                return match["token"], position
        return "", position

    def peek(self) -> str:
        return self._scan()[0]

    def take(self) -> str:
        token, self.position = self._scan()
        return token

    def expect(self, token: str) -> None:
        if self.peek() != token:
            raise self.error(repr(token))
        self.take()

    def accept(self, token: str) -> bool:
        if self.peek() == token:
            self.take()
            return True
        return False

    def end(self) -> None:
        if self.peek():
            raise self.error("the end of the text")

    def string(self) -> str:
        if not self.peek().startswith('"'):
            raise self.error("a quoted string")
        return self._unquote(self.peek())

    def name(self) -> str:
        token = self.peek()
        if not token.startswith("%"):
            raise self.error("a value name")
        if token.startswith('%"'):
            return self._unquote(token[1:])
        return self.take()[1:]

    def _unquote(self, text: str) -> str:
        try:
            result = json.loads(text)
        except ValueError:
            raise self.error("a string with JSON's escapes") from None
        self.take()
        return result

    def type(self) -> TensorType:
        match = _TYPE.match(self.text, self.position)
        if match is None:
            raise self.error("a tensor type")
        self.position = match.end()
        return parse_type(match[1])

    def number(self) -> str:
        match = _NUMBER.match(self.text, self.position)
        if match is None:
            raise self.error("a number")
        self.position = match.end()
        return match[1]

    def listed(self, item: Callable[[], T], opening: str, closing: str) -> list[T]:
        self.expect(opening)
        items: list[T] = []
        while not self.accept(closing):
            if items:
                self.expect(",")
            items.append(item())
        return items

    # Grammar

    def graph(self) -> Graph:
        if self.depth >= DEEPEST_BODY:
            raise self.error(f"bodies in bodies to a depth of at most {DEEPEST_BODY}")
        self.depth += 1
        self.expect("graph")
        graph = Graph(self.string())

        def argument() -> None:
            name = self.name()
            self.expect(":")
            graph.add_input(name, self.type())

        self.listed(argument, "(", ")")
        self.expect("{")
        values: dict[str, Value] = {value.name: value for value in graph.inputs}
        while not self.accept("return"):
            self.statement(graph, values)
        outputs: list[tuple[str, Value]] = []
        while not self.accept("}"):
            if outputs:
                self.expect(",")
            name = self.string()
            self.expect("=")
            outputs.append((name, self.operand(values)))
        graph.set_outputs(outputs)
        self.depth -= 1
        return graph

    def operand(self, values: Mapping[str, Value]) -> Value:
        start = self.position
        name = self.name()
        if name not in values:
            self.position = start
            raise self.error("a value that was defined above")
        return values[name]

    def statement(self, graph: Graph, values: dict[str, Value]) -> None:
        start = self.position
        names = [self.name()]
        while self.accept(","):
            names.append(self.name())
        for name in names:
            if name in values:
                self.position = start
                raise self.error(f"a name other than %{name}, which is taken")
        self.expect("=")
        op = self.take()
        if op == "constant":
            type = self.type()
            value = graph.add_constant(self.constant(type), names[0], type.layout)
            values[value.name] = value
            return
        operator = find_op(op)
        operands = self.listed(lambda: None if self.accept("_") else self.operand(values), "(", ")")
        attributes: dict[str, Any] = {}
        if self.peek() == "{":

            def attribute() -> None:
                key = self.take()
                if key not in operator.attributes:
                    raise self.error(f"an attribute of {op}: {', '.join(operator.attributes)}")
                if key in attributes:
                    raise self.error(f"each attribute once, and {key} is there already")
                self.expect("=")
                attributes[key] = self.attribute(operator.attributes[key])

            self.listed(attribute, "{", "}")
        self.expect(":")
        types = [self.type()]
        while self.accept(","):
            types.append(self.type())
        location = self.string() if self.accept("@") else ""
        layouts = [type.layout for type in types]
        node = graph.add_node(
            op,
            operands,
            attributes,
            names=names,
            location=location,
            output_layouts=layouts if any(layouts) else None,
        )
        inferred = [value.type for value in node.outputs]
        if inferred != types:
            self.position = start
            raise self.error(f"types {', '.join(map(str, inferred))}")
        if len(names) != len(types):
            self.position = start
            raise self.error(f"{len(types)} names of results")
        values.update((value.name, value) for value in node.outputs)

    def constant(self, type: TensorType) -> np.ndarray:
        dtype = numpy_dtype(type.dtype)
        if self.peek().startswith("sha256:"):
            digest = self.take().removeprefix("sha256:")
            if digest not in self.constants:
                raise EdgeIRError(
                    "the data of a constant is missing",
                    where=f"sha256:{digest}",
                    expected=str(type),
                    hint="load the text together with the .npz file that was saved beside it",
                )
            array = self.constants[digest]
            probe = Graph().add_constant(array)
            if array.dtype != dtype or array.shape != type.shape or probe.digest != digest:
                raise EdgeIRError(
                    "the data of a constant is not what the text names", where=f"sha256:{digest}", got=probe
                )
            return array
        items = self.listed(lambda: self.element(type.dtype), "[", "]")
        try:
            array = np.array(items, dtype=dtype).reshape(type.static_shape)
        except (ValueError, OverflowError):
            raise self.error(f"{type.elements} elements for {type}") from None
        if type.dtype in INTEGERS and [int(item) for item in array.ravel()] != items:
            # ml_dtypes wraps what does not fit into four bits.
            raise self.error(f"elements that fit {type.dtype}")
        return array

    def element(self, dtype: str) -> float | int | bool:
        if dtype == "bool":
            token = self.take()
            if token not in ("true", "false"):
                raise self.error("true or false")
            return token == "true"
        return self._convert(self.number(), float if "float" in dtype else int)

    def _convert(self, token: str, convert: Callable[[str], T]) -> T:
        try:
            return convert(token)
        except ValueError:
            raise self.error(f"a number, not {token!r}") from None

    def attribute(self, spec: Attribute) -> Any:
        if self.accept("none"):
            return None
        match spec.kind:
            case Kind.GRAPH:
                return self.graph()
            case Kind.INT:
                return self._convert(self.number(), int)
            case Kind.FLOAT:
                return self._convert(self.number(), float)
            case Kind.BOOL:
                return self.element("bool")
            case Kind.STR | Kind.DTYPE:
                return self.string()
            case Kind.DIM:
                return self.dimension(",}")
            case Kind.INTS:
                return tuple(self.listed(lambda: self._convert(self.number(), int), "[", "]"))
            case Kind.FLOATS:
                return tuple(self.listed(lambda: self._convert(self.number(), float), "[", "]"))
            case Kind.STRS:
                return tuple(self.listed(self.string, "[", "]"))
            case Kind.DIMS:
                return tuple(self.listed(lambda: self.dimension(",]"), "[", "]"))

    def dimension(self, stops: str) -> Any:
        depth, end = 0, self.position
        while end < len(self.text) and (depth or self.text[end] not in stops):
            depth += {"(": 1, ")": -1}.get(self.text[end], 0)
            end += 1
        text = self.text[self.position : end]
        self.position = end
        return parse_dim(text)
