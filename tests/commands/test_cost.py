"""Static cost: energy from published constants, innermost loops from a listing, predictions of llvm-mca."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import edgeir
import edgeir.ops
from edgeir.commands.cost import artifact_cost, graph_cost
from edgeir.commands.energy import graph_energy
from edgeir.commands.hot_loops import Loop, innermost_loops, predict
from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, TensorType, symbol
from edgeir.targets import lookup

X86_LISTING = """
model.so: file format elf64-x86-64

0000000000000010 <outer_compute_>:
      10:       xorl    %eax, %eax
      12:       movl    $0, %ecx
      14:       vfmadd231ps     (%rdx), %ymm0, %ymm1
      19:       addq    $32, %rdx
      1d:       cmpq    $8, %rcx
      21:       jne     0x14 <outer_compute_+0x4>
      23:       incq    %rax
      26:       jl      0x12 <outer_compute_+0x2>
      28:       retq

0000000000000030 <straight>:
      30:       jne     0x38 <straight+0x8>
      38:       retq
"""


def graph_of(rows: int | object, dtype: str = "float32") -> Graph:
    graph = Graph("cost")
    x = graph.add_input("x", TensorType(dtype, (rows, 8)))  # pyright: ignore[reportArgumentType]
    weights = graph.add_constant(np.ones((8, 16), dtype))
    graph.set_outputs([("y", graph.add_node("relu", [graph.add_node("matmul", [x, weights]).output]).output)])
    return graph


def test_energy_by_hand() -> None:
    energy = graph_energy(graph_of(4))
    macs, boundary, parameters = 4 * 8 * 16, 4 * (4 * 8 + 4 * 16), 4 * 8 * 16
    moved = 4 * (4 * 8 + 8 * 16 + 4 * 16) + 4 * (4 * 16 * 2)
    assert energy.arithmetic == pytest.approx(macs * 4.6e-6)
    assert energy.cache == pytest.approx((moved - boundary - parameters) * 12.5e-6)
    assert energy.dram_low == pytest.approx((boundary + parameters) * 162.5e-6)
    assert energy.dram_high == pytest.approx(2 * energy.dram_low)
    assert "Horowitz" in energy.rows()["constants"]


def test_smaller_types_take_less() -> None:
    assert graph_energy(graph_of(4, "int8")).arithmetic < graph_energy(graph_of(4)).arithmetic / 10


def test_symbolic_dimensions_are_told() -> None:
    with pytest.raises(EdgeIRError, match="fixed shapes"):
        graph_cost(graph_of(symbol("N")))


def test_only_innermost_loops_are_found() -> None:
    (loop,) = innermost_loops(X86_LISTING)
    assert loop.function == "outer" and loop.multiply_adds == 1
    assert [text.split()[0] for text in loop.instructions] == ["vfmadd231ps", "addq", "cmpq", "jne"]


needs_mca = pytest.mark.skipif(shutil.which("llvm-mca") is None, reason="needs llvm-mca")


@needs_mca
def test_a_chain_of_dependent_multiply_adds_takes_its_latency() -> None:
    chain = Loop("chain", ("vfmadd231ps %ymm2, %ymm3, %ymm0", "vfmadd231ps %ymm2, %ymm3, %ymm0"))
    apart = Loop("apart", ("vfmadd231ps %ymm2, %ymm3, %ymm0", "vfmadd231ps %ymm2, %ymm3, %ymm1"))
    target = lookup("x86-64-v3")
    one, two = predict(chain, target), predict(apart, target)
    assert one is not None and two is not None
    # Two latencies against one, of the same two instructions.
    assert one.cycles == pytest.approx(2 * two.cycles, rel=0.1) and one.port_bound == two.port_bound


@needs_mca
def test_unknown_instructions_give_no_prediction() -> None:
    assert predict(Loop("odd", ("not_an_instruction %x",)), lookup("x86-64-v3")) is None


@needs_mca
@pytest.mark.skipif(shutil.which("llvm-objdump") is None, reason="needs llvm-objdump")
def test_cost_of_an_artifact(tmp_path: Path) -> None:
    edgeir.compile(graph_of(64), output=tmp_path / "small")
    cost = artifact_cost(tmp_path / "small")
    assert cost["least_moved_bytes"] == 4 * (64 * 8 + 8 * 16 + 64 * 16)
    assert any("cycles per iteration" in line for line in cost["hot loops"]), cost["hot loops"]
