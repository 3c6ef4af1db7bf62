"""Shuffle networks, run in numpy: every wanted element must arrive, in as few steps as a transposition takes."""

from __future__ import annotations

import numpy as np
import pytest

from edgeir.schedules.register_shuffles import Network, network


def run(found: Network, given: int, lanes: int) -> np.ndarray:
    """The registers that the network makes of registers that hold their own elements' numbers."""
    registers = list(np.arange(given * lanes).reshape(given, lanes))
    for shuffle in found.shuffles:
        pair = np.concatenate([registers[shuffle.left], registers[shuffle.right]])
        registers.append(pair[list(shuffle.lanes)])
    return np.array([registers[number] for number in found.results])


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("side", [4, 8, 16])
def test_transpositions(side: int, lanes: int) -> None:
    """side rows of some length become columns."""
    wanted = np.arange(side * lanes).reshape(side, lanes).T.reshape(-1, lanes)
    found = network(wanted, lanes)
    assert found is not None
    np.testing.assert_array_equal(run(found, len(wanted), lanes), wanted)
    steps = min(side, lanes).bit_length() - 1
    assert len(found.shuffles) == steps * len(wanted)


def test_random_permutations_of_bits() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        inside, outside = (int(n) for n in (rng.integers(2, 5), rng.integers(0, 4)))
        bits = rng.permutation(inside + outside)
        count = np.arange(1 << (inside + outside))
        places = sum((count >> position & 1) << int(bit) for position, bit in enumerate(bits))
        wanted = np.asarray(places).reshape(-1, 1 << inside)
        found = network(wanted, 1 << inside)
        assert found is not None
        np.testing.assert_array_equal(run(found, len(wanted), 1 << inside), wanted)
        crossing = sum(int(bit) >= inside for bit in bits[:inside])
        assert len(found.shuffles) <= max(1, crossing) * len(wanted)


def test_elements_that_are_wanted_twice() -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        lanes = int(rng.choice([4, 8]))
        pairs = rng.integers(0, 4, (6, 2))
        wanted = np.array([rng.choice(pair, lanes) * lanes + rng.integers(0, lanes, lanes) for pair in pairs])
        given = int(wanted.max()) // lanes + 1
        found = network(wanted, lanes)
        assert found is not None and len(found.shuffles) <= 6
        np.testing.assert_array_equal(run(found, given, lanes), wanted)
    rows = np.arange(16).reshape(4, 4).T
    twice = np.concatenate([rows, rows[::-1]])
    found = network(twice, 4)
    assert found is not None and len(found.shuffles) == 8
    np.testing.assert_array_equal(run(found, 4, 4), twice)


def test_nothing_to_do_and_nothing_known() -> None:
    identity = np.arange(8).reshape(2, 4)
    found = network(identity, 4)
    assert found is not None and found.shuffles == () and found.results == (0, 1)
    scattered = np.random.default_rng(2).permutation(64).reshape(8, 8)
    assert network(scattered, 8) is None
