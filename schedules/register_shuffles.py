"""Rearranging elements between vector registers by shuffles of two registers.

A rearrangement of 2^n elements that permutes the bits of their positions (every transposition of axes whose lengths are
powers of two is one) takes as many steps as bits must move between the number of a register and the place in it: a step
exchanges one of each in all registers, with one shuffle for each. Anything else is done where every result draws from
at most two registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shuffle:
    """One shuffle.

    Attributes:
        left: number of a register: those given come first, then the results of all shuffles in order.
        right: another, or the same.
        lanes: for each element of the result its lane in the left (below their number) or the right register.
    """

    left: int
    right: int
    lanes: tuple[int, ...]


@dataclass(frozen=True)
class Network:
    """Shuffles in order, and where each wanted register then is (numbered as in `Shuffle`)."""

    shuffles: tuple[Shuffle, ...]
    results: tuple[int, ...]


def network(wanted: np.ndarray, lanes: int) -> Network | None:
    """The shuffles that make registers of elements wanted.

    Args:
        wanted: registers × lanes: the elements, counted through the given registers one after the other.
        lanes: of a register, a power of two.

    Returns:
        None where no cheap way is known.
    """
    made: list[Shuffle] = []
    results: list[int] = []
    given = int(wanted.max()) // lanes + 1
    known: dict[tuple[int, ...], int] = {}
    if max(len(set(row)) for row in (wanted // lanes).tolist()) > 2:
        return _by_bits(wanted, lanes)
    for row in wanted.tolist():
        key = tuple(row)
        if key not in known:
            sources = sorted({element // lanes for element in row})
            if len(sources) == 1 and [element % lanes for element in row] == list(range(lanes)):
                known[key] = sources[0]
            else:
                places = tuple(element % lanes + lanes * sources.index(element // lanes) for element in row)
                made.append(Shuffle(sources[0], sources[-1], places))
                known[key] = given + len(made) - 1
        results.append(known[key])
    return Network(tuple(made), tuple(results))


def _by_bits(wanted: np.ndarray, lanes: int) -> Network | None:
    """As `network`, for permutations of the bits of positions, registers that are wanted twice included."""
    rows: dict[tuple[int, ...], int] = {}
    order = [rows.setdefault(tuple(row), len(rows)) for row in wanted.tolist()]
    distinct = np.array(list(rows), dtype=np.int64)
    places = distinct.reshape(-1)
    count = len(places)
    bits = count.bit_length() - 1
    if count != 1 << bits or sorted(places) != list(range(count)):
        return None
    images = [int(places[1 << bit]) for bit in range(bits)]
    combined = sum((np.arange(count) >> bit & 1) * image for bit, image in enumerate(images))
    if sorted(images) != [1 << bit for bit in range(bits)] or not np.array_equal(combined, places):
        return None
    found = _Bits(lanes.bit_length() - 1, [images.index(1 << bit) for bit in range(bits)])
    found.run()
    return Network(tuple(found.made), tuple(found.place(row) for row in order))


class _Bits:
    """Moves bits step by step. A bit is named by its place in the position that is wanted.

    Args:
        inside: bits of the position in a register.
        given: for each bit of a given position, the lowest first, the bit of the wanted position that it becomes.
    """

    def __init__(self, inside: int, given: Sequence[int]) -> None:
        self.inside = inside
        self.lanes = list(given[:inside])
        outside = list(given[inside:])
        self.made: list[Shuffle] = []
        self.next = 1 << len(outside)
        # Register bits that are set → the register.
        self.registers = {
            frozenset(bit for place, bit in enumerate(outside) if number >> place & 1): number
            for number in range(self.next)
        }

    def run(self) -> None:
        target = list(range(self.inside))
        while entering := [bit for bit in target if bit not in self.lanes]:
            self.exchange(entering[0], target if len(entering) == 1 else None)
        if self.lanes != target:
            self.exchange(None, target)

    def place(self, row: int) -> int:
        """The register that holds a wanted register."""
        bits = max((bit for register in self.registers for bit in register), default=0) + 1
        return self.registers[frozenset(b for b in range(self.inside, bits) if row >> (b - self.inside) & 1)]

    def exchange(self, entering: int | None, order: list[int] | None) -> None:
        """Brings a bit into the registers for one that does not belong there."""
        leaving = next((bit for bit in self.lanes if bit >= self.inside), None) if entering is not None else None
        if order is None:
            assert entering is not None
            order, leaving = self.next_order(entering)
        elif entering is not None:
            leaving = next(bit for bit in self.lanes if bit not in order)
        moved: dict[frozenset[int], int] = {}
        for register, left in self.registers.items():
            if entering is not None and entering in register:
                continue
            right = left if entering is None else self.registers[register | {entering}]
            for value in (0,) if leaving is None else (0, 1):
                lanes = tuple(self.lane(place, order, entering, leaving, value) for place in range(1 << self.inside))
                self.made.append(Shuffle(left, right, lanes))
                moved[register | {leaving} if leaving is not None and value else register] = self.next
                self.next += 1
        self.registers, self.lanes = moved, order

    def next_order(self, entering: int) -> tuple[list[int], int]:
        """The lanes after a bit came in, and the bit that left; ways that are one instruction everywhere first."""
        lanes = self.lanes
        if entering == 0 and self.inside > 1 and lanes[0] >= self.inside and lanes[1] >= self.inside:
            return [0, lanes[0], *lanes[2:]], lanes[1]  # what `unpack` and `zip` do
        position = (
            entering if lanes[entering] >= self.inside else next(i for i, b in enumerate(lanes) if b >= self.inside)
        )
        return [*lanes[:position], entering, *lanes[position + 1 :]], lanes[position]

    def lane(self, place: int, order: list[int], entering: int | None, leaving: int | None, value: int) -> int:
        """Which lane of the pair of registers goes to a place."""
        bits = {bit: place >> position & 1 for position, bit in enumerate(order)}
        if leaving is not None:
            bits[leaving] = value
        lane = sum(bits[bit] << position for position, bit in enumerate(self.lanes))
        return lane + (1 << self.inside) * bits.get(entering, 0) if entering is not None else lane
