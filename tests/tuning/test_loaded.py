"""Kernels that are timed with copies of their weights and results, as many as the network's other weights take."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeir.tuning.loaded import LEAST_BYTES, load
from edgeir.tuning.problem import KERNEL
from edgeir.tuning.run_candidate import FEWEST_REPEATS, MOST_REPEATS, timed


class Library:
    """A kernel result = 2 * weight + input, which remembers the places of its arguments."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, ...]] = []

    def __getitem__(self, name: str) -> Any:
        assert name == KERNEL
        return self.kernel

    def kernel(self, x: Any, weight: Any, result: Any) -> None:
        arrays: list[Any] = [np.from_dlpack(item) for item in (x, weight, result)]
        self.calls.append(tuple(array.ctypes.data for array in arrays))
        result.copyfrom(2 * arrays[1] + arrays[0])

    def time_evaluator(self, name: str, _: Any, number: int, repeat: int) -> Any:
        def timer(*arguments: Any) -> Any:
            for _ in range(number * repeat):
                self[name](*arguments)
            return SimpleNamespace(results=[1.0] * repeat)

        return timer


def loaded(floats: int, others: int, remote: bool = False) -> tuple[Library, Any]:
    import tvm

    library = Library()
    device: Any = SimpleNamespace(is_remote=remote, handle=tvm.cpu(), load=lambda path: library)
    arrays = [np.full(floats, value, "float32") for value in (1, 2, 0)]
    return library, load("kernel.so", device, arrays, 1, [1], others)


def test_runs_take_copies_of_weights_and_results_in_turn() -> None:
    floats = LEAST_BYTES // 4
    # A set is a weight and a result; three more of them take the place of the others.
    library, kernel = loaded(floats, others=2 * LEAST_BYTES * 3 - 4)
    assert len(kernel.sets) == 4
    times = kernel.seconds(3, 2) + kernel.seconds(2, 1)
    assert len(times) == 3 and all(seconds > 0 for seconds in times)
    assert len({call[0] for call in library.calls}) == 1
    for place in (1, 2):
        places = [call[place] for call in library.calls]
        assert len(set(places[:4])) == 4
        assert places[4:] == places[:4]
    for arguments in kernel.sets:
        assert (arguments[2].numpy() == 5).all()


def test_results_are_those_of_the_last_run() -> None:
    _, kernel = loaded(LEAST_BYTES, others=1 << 20)
    kernel.run()
    (result,) = kernel.results
    assert (result.numpy() == 5).all()


@pytest.mark.parametrize(
    ("floats", "others", "remote"),
    [(8, 1 << 20, False), (LEAST_BYTES, 0, False), (LEAST_BYTES, 1 << 20, True)],
    ids=["small", "alone", "remote"],
)
def test_otherwise_the_same_arguments_are_repeated(floats: int, others: int, remote: bool) -> None:
    library, kernel = loaded(floats, others, remote)
    assert len(kernel.sets) == 1
    assert kernel.seconds(3, 2) == [1.0, 1.0]
    assert len(library.calls) == 6 and len(set(library.calls)) == 1


class Timed:
    """A kernel whose repeats take the times of a list, again and again."""

    def __init__(self, times: list[float]) -> None:
        self.times, self.repeats = times, 0

    def run(self) -> None:
        pass

    def seconds(self, number: int, repeat: int) -> list[float]:
        self.repeats += repeat
        return [self.times[index % len(self.times)] for index in range(self.repeats - repeat, self.repeats)]


def test_kernels_get_equally_many_repeats_until_all_are_stable() -> None:
    steady, restless = Timed([1e-5]), Timed([1e-5 * 1.02**index for index in range(MOST_REPEATS + 1)])
    kernels: Any = [steady, restless]
    first, second = timed(kernels)
    assert len(first) == len(second) == MOST_REPEATS
    (alone,) = timed(kernels[:1])
    assert len(alone) == FEWEST_REPEATS
