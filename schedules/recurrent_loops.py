"""The loops of a recurrent layer: all time steps in one kernel, sums in registers, gates while they are there.

    for each direction, for each part of the sequences (threads, which never meet):
        for each step:
            for each phase of gates (one; two where a gru resets the state before the product):
                for each panel of units (threads, if the sequences are too few for them):
                    for each tile of sequences:
                        sums = x                                   registers: sequences x gates x vectors
                        for k: sums += h[k] * panel[k]
                        gates, cell and state from the sums

States are kept twice, of the step before and of this one, so that panels and tiles may overlap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from edgeir.schedules.recurrent_cells import activate
from edgeir.schedules.recurrent_panels import Panels
from edgeir.schedules.recurrent_problem import GateFunction, Recurrence
from edgeir.schedules.sparse_arguments import whole
from edgeir.schedules.tir_types import AnyBuffer, Expression


@dataclass(frozen=True)
class Tile:
    """How the loops are cut.

    Attributes:
        lanes: elements of a vector.
        vectors: vectors of units in a panel.
        rows: sequences of a tile.
        parts: into how many parts the sequences of a direction are cut; they and the directions run at the same time.
        share_units: whether threads share the panels of each step; there is one part then.
    """

    lanes: int = 1
    vectors: int = 1
    rows: int = 1
    parts: int = 1
    share_units: bool = False

    @property
    def width(self) -> int:
        """Units of a panel."""
        return self.lanes * self.vectors


def emit(
    problem: Recurrence,
    tile: Tile,
    inputs: Mapping[str, AnyBuffer],
    outputs: Sequence[AnyBuffer],
    dtype: str,
    packed: bool,
    parallel: bool,
) -> None:
    """Writes the loops with TVM's IR builder.

    Args:
        problem: the layer.
        tile: how to cut it.
        inputs: its operands by name.
        outputs: Y (T, D, B, H) and the last states (D, B, H).
        dtype: element type of all of them but the lengths.
        packed: whether `r` lies in panels.
        parallel: whether directions and parts run at the same time.
    """
    size = -(-problem.batch // tile.parts)
    pieces = problem.directions * tile.parts

    def run(direction: int, part: Any) -> None:
        first: Any = 0 if tile.parts == 1 else T.bind(tirx.min(part * size, problem.batch - size))
        _Part(problem, tile, inputs, outputs, dtype, packed, direction, first, size).emit()

    if not parallel or pieces == 1:
        for direction in range(problem.directions):
            if tile.parts == 1:
                run(direction, 0)
            else:
                with T.serial(0, tile.parts) as part:
                    run(direction, part)
        return
    with T.parallel(0, pieces) as piece:
        if problem.directions == 1:
            run(0, piece)
            return
        with T.If(piece < tile.parts):
            with T.Then():
                run(0, piece)
            with T.Else():
                run(1, piece - tile.parts)


class _Part:
    """Some sequences of one direction."""

    def __init__(
        self,
        problem: Recurrence,
        tile: Tile,
        inputs: Mapping[str, AnyBuffer],
        outputs: Sequence[AnyBuffer],
        dtype: str,
        packed: bool,
        direction: int,
        first: Any,
        size: int,
    ) -> None:
        self.problem, self.tile, self.inputs, self.outputs = problem, tile, inputs, outputs
        self.dtype, self.packed, self.direction, self.first, self.size = dtype, packed, direction, first, size
        self.panels = Panels(problem, tile.width)
        self.functions = problem.functions[direction]
        self.rows = min(tile.rows, size)
        self.states: list[AnyBuffer] = []
        self.reset: AnyBuffer = None
        self.update: AnyBuffer = None
        self.now: Expression = 0
        self.next: Expression = 0
        self.time: Expression = 0

    # Vectors

    def load(self, buffer: AnyBuffer, *index: Any) -> Expression:
        """A vector that begins at an index."""
        *outer, last = index
        if self.tile.lanes > 1:
            last = tirx.Ramp(whole(last), whole(1), whole(self.tile.lanes))
        return tirx.BufferLoad(buffer, [*outer, last])

    def element(self, buffer: AnyBuffer, *index: Any) -> Expression:
        """One element."""
        return tirx.BufferLoad(buffer, [*index])

    def store(self, buffer: AnyBuffer, value: Expression, *index: Any) -> None:
        """Stores a vector at an index."""
        *outer, last = index
        if self.tile.lanes > 1:
            last = tirx.Ramp(whole(last), whole(1), whole(self.tile.lanes))
        T.buffer_store(buffer, value, [*outer, last])

    def spread(self, value: Expression) -> Expression:
        """A vector of one value."""
        return tirx.Broadcast(value, whole(self.tile.lanes)) if self.tile.lanes > 1 else value

    def zeros(self) -> Expression:
        """A vector of zeros."""
        return self.spread(tirx.const(0.0, self.dtype))

    def buffer(self, elements: int) -> AnyBuffer:
        """Temporary memory."""
        return T.alloc_buffer((elements,), self.dtype, layout=None)

    # Loops

    def emit(self) -> None:
        """All steps, and the states before and after them."""
        problem, elements = self.problem, self.size * self.problem.hidden
        self.states = [self.buffer(2 * elements) for _ in range(problem.states)]
        if len(problem.phases) > 1:
            self.reset, self.update = self.buffer(elements), self.buffer(elements)
        self.vectors(self.start)
        with T.serial(0, problem.steps) as step:
            self.time = problem.steps - 1 - step if problem.backward[self.direction] else step
            self.now = T.bind(step % 2 * elements)
            self.next = T.bind((1 - step % 2) * elements)
            for phase in range(len(problem.phases)):
                self.phase(phase)
        self.vectors(self.finish)

    def vectors(self, body: Any) -> None:
        """For each sequence and vector of units."""
        lanes, hidden = self.tile.lanes, self.problem.hidden
        with T.serial(0, self.size) as row, T.serial(0, -(-hidden // lanes)) as vector:
            body(row, vector * lanes if hidden % lanes == 0 else tirx.min(vector * lanes, hidden - lanes))

    def start(self, row: Expression, unit: Expression) -> None:
        """The states before the first step."""
        for buffer, name in zip(self.states, ("h", "c"), strict=False):
            given = self.inputs.get(name)
            value = self.zeros() if given is None else self.load(given, self.direction, self.first + row, unit)
            self.store(buffer, value, row * self.problem.hidden + unit)

    def finish(self, row: Expression, unit: Expression) -> None:
        """The states after the last step."""
        place = self.problem.steps % 2 * self.size * self.problem.hidden
        for buffer, output in zip(self.states, self.outputs[1:], strict=True):
            value = self.load(buffer, place + row * self.problem.hidden + unit)
            self.store(output, value, self.direction, self.first + row, unit)

    def phase(self, phase: int) -> None:
        """All panels of a phase."""
        panels, hidden, width = self.panels, self.problem.hidden, self.tile.width
        shared = self.tile.share_units and panels.count > 1
        with T.parallel(0, panels.count) if shared else T.serial(0, panels.count) as panel:
            unit = T.bind(panel * width if hidden % width == 0 else tirx.min(panel * width, hidden - width))
            base = T.bind(panels.offset(phase) + panel * (hidden * len(self.problem.phases[phase]) * width))
            tiles = -(-self.size // self.rows)
            with T.serial(0, tiles) as number:
                place = number * self.rows
                row = T.bind(place if self.size % self.rows == 0 else tirx.min(place, self.size - self.rows))
                sums = self.products(phase, base, unit, row)
                for index in range(self.rows):
                    self.finish_row(phase, sums[index], row + index, unit)

    def products(self, phase: int, base: Expression, unit: Expression, row: Expression) -> list[AnyBuffer]:
        """For each sequence of a tile, the sums of its gates: (gate, unit)."""
        lanes, width, hidden = self.tile.lanes, self.tile.width, self.problem.hidden
        gates = self.problem.phases[phase]
        sums = [self.buffer(len(gates) * width) for _ in range(self.rows)]
        places = [(slot, gate, v * lanes) for slot, gate in enumerate(gates) for v in range(self.tile.vectors)]
        for index, acc in enumerate(sums):
            for slot, gate, v in places:
                self.store(acc, self.before(gate, row + index, unit + v), slot * width + v)
        source, start = (self.states[0], self.now) if phase == 0 else (self.reset, 0)
        with T.serial(0, hidden) as k:
            for index, acc in enumerate(sums):
                state = self.spread(self.element(source, start + (row + index) * hidden + k))
                for slot, gate, v in places:
                    if self.packed:
                        weight = self.load(self.inputs["r"], self.direction, base + (k * len(gates) + slot) * width + v)
                    else:
                        weight = self.element(self.inputs["r"], self.direction, gate * hidden + unit + v, k)
                    self.store(acc, self.load(acc, slot * width + v) + state * weight, slot * width + v)
        return sums

    def resets_product(self, gate: int) -> bool:
        """Whether a gate's product is multiplied by the reset gate before its input is added."""
        return self.problem.cell == "gru" and self.problem.linear_before_reset and gate == 2

    def before(self, gate: int, row: Expression, unit: Expression) -> Expression:
        """What a gate's product with the state is added to."""
        hidden, bias = self.problem.hidden, self.inputs.get("bias")
        parts: list[Any] = []
        if not self.resets_product(gate):
            parts.append(self.input(gate, row, unit))
        if bias is not None:
            state_bias = (self.problem.gates + gate) * hidden + unit
            parts.append(self.load(bias, self.direction, state_bias))
        return sum(parts[1:], start=parts[0]) if parts else self.zeros()

    def input(self, gate: int, row: Expression, unit: Expression) -> Expression:
        """A gate's input, with its bias."""
        hidden, bias = self.problem.hidden, self.inputs.get("bias")
        at = (self.direction * self.problem.gates + gate) * hidden + unit
        value = self.load(self.inputs["x"], self.time, self.first + row, at)
        return value if bias is None else value + self.load(bias, self.direction, gate * hidden + unit)

    # Gates

    def finish_row(self, phase: int, sums: AnyBuffer, row: Expression, unit: Expression) -> None:
        """Gates, cell and state of one sequence's units."""
        if "lengths" not in self.inputs:
            self.each_vector(phase, sums, row, unit)
            return
        # A step beyond the end of a sequence leaves its state alone.
        with T.If(self.time < self.element(self.inputs["lengths"], self.first + row)):
            with T.Then():
                self.each_vector(phase, sums, row, unit)
            with T.Else():
                for v in range(self.tile.vectors):
                    place = row * self.problem.hidden + unit + v * self.tile.lanes
                    for buffer in self.states:
                        self.store(buffer, self.load(buffer, self.now + place), self.next + place)
                    self.store_y(self.zeros(), row, unit + v * self.tile.lanes)

    def store_y(self, value: Expression, row: Expression, unit: Expression) -> None:
        self.store(self.outputs[0], value, self.time, self.direction, self.first + row, unit)

    def each_vector(self, phase: int, sums: AnyBuffer, row: Expression, unit: Expression) -> None:
        cell = {"lstm": self.lstm, "gru": self.gru, "rnn": self.rnn}[self.problem.cell]
        for v in range(self.tile.vectors):
            cell(phase, sums, v * self.tile.lanes, row, unit + v * self.tile.lanes)

    def lanewise(self, body: Any) -> None:
        """Statements for each lane, given its number."""
        if self.tile.lanes == 1:
            body(0)
            return
        with T.vectorized(0, self.tile.lanes) as lane:
            body(lane)

    def gate(self, function: GateFunction, sums: AnyBuffer, at: int, added: Any = None) -> None:
        """Activates a gate where it lies; `added`, given the lane, is added first."""

        def body(lane: Expression) -> None:
            value = self.element(sums, at + lane)
            value = value if added is None else value + added(lane)
            T.buffer_store(sums, activate(function, value, self.problem.clip), [at + lane])

        self.lanewise(body)

    def hand_on(self, place: Expression, row: Expression, unit: Expression) -> None:
        """Copies the new state to the result."""
        self.store_y(self.load(self.states[0], self.next + place), row, unit)

    def lstm(self, phase: int, sums: AnyBuffer, v: int, row: Expression, unit: Expression) -> None:
        """c′ = f·c + i·g; h′ = o·h(c′)."""
        slots = {gate: slot * self.tile.width + v for slot, gate in enumerate(self.problem.phases[phase])}
        hidden, (h, c), peephole = self.problem.hidden, self.states, self.inputs.get("peephole")
        f, g, output = self.functions
        place = row * hidden + unit

        def peek(which: int, start: Expression) -> Any:
            if peephole is None:
                return None
            return lambda lane: (
                self.element(peephole, self.direction, which * hidden + unit + lane)
                * self.element(c, start + place + lane)
            )

        self.gate(f, sums, slots[0], peek(0, self.now))
        if not self.problem.coupled:
            self.gate(f, sums, slots[2], peek(2, self.now))
        self.gate(g, sums, slots[3])

        def cell(lane: Expression) -> None:
            i = self.element(sums, slots[0] + lane)
            forget = tirx.const(1.0, self.dtype) - i if self.problem.coupled else None
            forget = self.element(sums, slots[2] + lane) if forget is None else forget
            kept = forget * self.element(c, self.now + place + lane)
            T.buffer_store(c, kept + i * self.element(sums, slots[3] + lane), [self.next + place + lane])

        def state(lane: Expression) -> None:
            value = activate(output, self.element(c, self.next + place + lane))
            T.buffer_store(h, self.element(sums, slots[1] + lane) * value, [self.next + place + lane])

        self.lanewise(cell)
        self.gate(f, sums, slots[1], peek(1, self.next))
        self.lanewise(state)
        self.hand_on(place, row, unit)

    def gru(self, phase: int, sums: AnyBuffer, v: int, row: Expression, unit: Expression) -> None:
        """h′ = (1 − z)·g + z·h."""
        (h,), (f, g), width = self.states, self.functions, self.tile.width
        place = row * self.problem.hidden + unit
        two_phases = len(self.problem.phases) > 1
        candidate = v if two_phases else 2 * width + v
        if phase == 0:
            self.gate(f, sums, v)
            self.gate(f, sums, width + v)
        if two_phases and phase == 0:
            reset = self.load(sums, width + v) * self.load(h, self.now + place)
            self.store(self.reset, reset, place)
            self.store(self.update, self.load(sums, v), place)
            return
        if not two_phases:
            product = self.load(sums, candidate) * self.load(sums, width + v)
            self.store(sums, product + self.input(2, row, unit), candidate)
        self.gate(g, sums, candidate)
        z = self.load(self.update, place) if two_phases else self.load(sums, v)
        new = (self.spread(tirx.const(1.0, self.dtype)) - z) * self.load(sums, candidate)
        self.store(h, new + z * self.load(h, self.now + place), self.next + place)
        self.hand_on(place, row, unit)

    def rnn(self, phase: int, sums: AnyBuffer, v: int, row: Expression, unit: Expression) -> None:
        """h′ = f(x + h·rᵀ)."""
        place = row * self.problem.hidden + unit
        self.gate(self.functions[0], sums, v)
        self.store(self.states[0], self.load(sums, v), self.next + place)
        self.hand_on(place, row, unit)
