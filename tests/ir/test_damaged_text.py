"""Damaged text and data give one `EdgeIRError` each, never another exception."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeir.errors import EdgeIRError
from edgeir.ir import Builder, Graph, load_graph, parse_graph, print_graph, save_graph, symbol
from edgeir.ir.storage import large_constants
from tests.ir.test_text import fused_graph
from tests.strategies import graphs

ALPHABET = list(' \n"%\\{}[]()=,:@#_-+*/.0123456789abcdefNxyéκ\0\x85')


def parses_or_refuses(text: str, graph: Graph) -> None:
    """Parsing gives a valid graph, whose text reads back, or an `EdgeIRError`."""
    try:
        read = parse_graph(text, large_constants(graph))
    except EdgeIRError:
        return
    read.verify()
    again = print_graph(read)
    assert print_graph(parse_graph(again, large_constants(graph))) == again


def sample() -> Graph:
    builder = Builder("sample")
    x = builder.input("x", "float32[N, 3, 8, 8]")
    w = builder.constant(np.full((4, 3, 3, 3), 0.5, np.float32))
    y = builder.conv(
        x, w, np.array([1, -2, np.inf, 0.1], np.float32), strides=(2, 2), padding=(1,) * 4, dilations=(1, 1)
    )
    y = builder.clip(
        builder.max_pool(y, kernel=(2, 2), strides=(2, 2), padding=(0,) * 4, dilations=(1, 1)), minimum=0.0
    )
    z = builder.slice(y, starts=(0, 0, 0, 0), sizes=(symbol("N"), 2, 1, 1), steps=(1,) * 4)
    return builder.outputs(y=y, z=builder.cast(z, dtype="int32"))


@given(st.data())
@settings(max_examples=250)
def test_mutated_text(data: st.DataObject) -> None:
    graph = data.draw(st.sampled_from([sample(), fused_graph()]))
    text = print_graph(graph)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        kind = data.draw(st.sampled_from(["insert", "delete", "replace", "repeat", "move"]))
        length = data.draw(st.integers(1, 12))
        insertion = data.draw(st.sampled_from(ALPHABET))
        if kind == "insert":
            text = text[:at] + insertion + text[at:]
        elif kind == "delete":
            text = text[:at] + text[at + length :]
        elif kind == "replace":
            text = text[:at] + insertion + text[at + 1 :]
        elif kind == "repeat":
            text = text[:at] + text[at : at + length] + text[at:]
        else:
            to = data.draw(st.integers(0, len(text)))
            text = text[:to] + text[at : at + length] + text[to:]
    parses_or_refuses(text, graph)


@given(graphs(most_nodes=4), st.data())
@settings(max_examples=60)
def test_mutated_random_graphs(graph: Graph, data: st.DataObject) -> None:
    lines = print_graph(graph).split("\n")
    at, to = data.draw(st.integers(0, len(lines) - 1)), data.draw(st.integers(0, len(lines) - 1))
    if data.draw(st.booleans()):
        lines[at], lines[to] = lines[to], lines[at]
    else:
        del lines[at]
    parses_or_refuses("\n".join(lines), graph)


@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    with pytest.raises(EdgeIRError):
        parse_graph("graph " + text)


def test_every_truncation() -> None:
    graph = sample()
    text = print_graph(graph)
    for length in range(len(text)):
        with pytest.raises(EdgeIRError):
            parse_graph(text[:length], large_constants(graph))


HEADER = 'graph "g" (%x: float32[2]) {\n'
END = '\n  return "y" = %x\n}'


@pytest.mark.parametrize(
    "text",
    [
        HEADER + "  %y = no_such_op(%x) : float32[2]" + END,
        HEADER + "  %y = relu(%z) : float32[2]" + END,
        HEADER + "  %y = relu(%x) : float32[3]" + END,
        HEADER + "  %y = relu(%x) {alpha = 1} : float32[2]" + END,
        HEADER + "  %y = relu(%x, %x) : float32[2]" + END,
        HEADER + "  %y = clip(%x) {minimum = 1e} : float32[2]" + END,
        HEADER + '  %y = cast(%x) {dtype = "float33"} : float32[2]' + END,
        HEADER + '  %y = cast(%x) {dtype = "int8", dtype = "int8"} : int8[2]' + END,
        HEADER + "  %x = relu(%x) : float32[2]" + END,
        HEADER + "  %y, %z = relu(%x) : float32[2]" + END,
        HEADER + "  %y = relu(%x) : float32[2], float32[2]" + END,
        HEADER + "  %c = constant int8[1] [300]" + END,
        HEADER + "  %c = constant int8[2] [1]" + END,
        HEADER + "  %c = constant int8[N] [1]" + END,
        HEADER + "  %c = constant float32[1] [1.0.0]" + END,
        HEADER + "  %c = constant uint8[1] [-1]" + END,
        HEADER + "  %c = constant int64[1] [99999999999999999999]" + END,
        HEADER + "  %c = constant int4[1] [9]" + END,
        HEADER + "  %c = constant float32[999999999999] sha256:00" + END,
        HEADER + "  %c = constant bool[1] [1]" + END,
        HEADER + "  %y = reshape(%x) {shape = [2//0]} : float32[2]" + END,
        HEADER + '  return "y" = %x, "y" = %x\n}',
        HEADER + '  return "y\\q" = %x\n}',
        'graph "g" (%x: float32[2], %x: float32[2]) {' + END,
        'graph "g" (%x: float32[-2]) {' + END,
        'graph "g" (%x: float32[2]{NCHW}) {' + END,
        'graph "g" (%x: float32[1, 2]{NC0c}) {' + END,
        HEADER + END + " more",
    ],
)
def test_broken_grammar_and_meaning(text: str) -> None:
    with pytest.raises(EdgeIRError):
        parse_graph(text)


def test_line_is_named() -> None:
    with pytest.raises(EdgeIRError, match="line 2"):
        parse_graph(HEADER + "  %y = relu(%z) : float32[2]" + END)


def test_nesting_is_bounded() -> None:
    level = 'graph "g" (%x: float32[2]) { %y = fused(%x) {body = '
    with pytest.raises(EdgeIRError):
        parse_graph(level * 20_000)
    with pytest.raises(EdgeIRError):
        parse_graph(f'graph "g" (%x: float32[{"(" * 50_000}N{")" * 50_000}]) {{{END}')


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "graph.txt"
    save_graph(sample(), path)
    return path


def test_missing_and_unreadable_files(saved: Path) -> None:
    with pytest.raises(EdgeIRError):
        load_graph(saved.parent / "nothing.txt")
    with pytest.raises(EdgeIRError):
        load_graph(saved.parent)
    companion = saved.with_name("graph.txt.npz")
    companion.unlink()
    with pytest.raises(EdgeIRError, match="missing"):
        load_graph(saved)
    saved.write_bytes(b"\xff\xfe\x00graph")
    with pytest.raises(EdgeIRError):
        load_graph(saved)


def test_damaged_constants(saved: Path) -> None:
    companion = saved.with_name("graph.txt.npz")
    whole = companion.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(whole)
        for position in generator.integers(0, len(whole), generator.integers(1, 4)):
            damaged[position] ^= int(generator.integers(1, 256))
        companion.write_bytes(
            damaged[: int(generator.integers(1, len(whole)))] if generator.random() < 0.3 else damaged
        )
        try:
            graph = load_graph(saved)
        except EdgeIRError:
            continue
        # Damage to parts that carry no data, such as time stamps.
        assert print_graph(graph) == print_graph(sample())
        (large,) = [value for value in graph.constants if value.data.size > 16]
        assert np.all(large.data == 0.5)


def test_foreign_constants(saved: Path) -> None:
    companion = saved.with_name("graph.txt.npz")
    for arrays in (
        {"a": np.zeros(3)},
        {"0|float32|3": np.zeros(5, np.uint8)},
        {"0|object|3": np.zeros(3, np.uint8)},
        {"0|float32|-1": np.zeros(4, np.uint8)},
        {"0|float32|x": np.zeros(4, np.uint8)},
        {"0|float32|1": np.zeros(4, np.float64)},
        {"0|float32|1": np.zeros((), np.uint8)},
    ):
        with companion.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        with pytest.raises(EdgeIRError):
            load_graph(saved)
    companion.write_bytes(b"")
    with pytest.raises(EdgeIRError):
        load_graph(saved)
    with companion.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(EdgeIRError):
        load_graph(saved)
