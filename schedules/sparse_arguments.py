"""What the sparse kernels share: reading stored weights, and writing outputs wherever they lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from edgeir.schedules.conv_stages import static_shape
from edgeir.schedules.sparse_epilogue import Epilogue
from edgeir.schedules.sparse_problem import SparseProblem
from edgeir.schedules.sparse_storage import WORDS_OF_PAIR, first_pair
from edgeir.schedules.tir_types import AnyBuffer, Expression


class SparseArguments:
    """The arguments of a sparse kernel, for code that is written with TVM's IR builder.

    Args:
        problem: the product.
        epilogue: the formula of an output element.
        x: index of the activation's operand.
    """

    def __init__(self, problem: SparseProblem, epilogue: Epilogue, x: int) -> None:
        self.problem, self.epilogue = problem, epilogue
        parameters = list(epilogue.func.params)
        self.x, self.words = parameters[x], parameters[problem.weight]

    def integer(self, at: Expression) -> Expression:
        """A word that holds an integer."""
        return tirx.reinterpret("int32", tirx.BufferLoad(self.words, [at]))

    def element(self, at: Expression) -> Expression:
        """An element of the activation, counted in memory order."""
        return tirx.BufferLoad(self.x, [*_zeros(self.x), at])

    def nonzeros(self, pair: Expression) -> Iterator[tuple[Expression, Expression]]:
        """Column and value of the two nonzeros of a pair."""
        at = T.bind(pair * WORDS_OF_PAIR + first_pair(self.problem.stored_rows))
        columns = T.bind(tirx.reinterpret("uint32", tirx.BufferLoad(self.words, [at])))
        yield (columns & tirx.const(0xFFFF, "uint32")).astype("int32"), tirx.BufferLoad(self.words, [at + 1])
        yield (columns >> tirx.const(16, "uint32")).astype("int32"), tirx.BufferLoad(self.words, [at + 2])

    def write(self, image: Any, output: Any, position: Expression, value: Expression) -> None:
        """Stores the result at an output and a position."""
        place = self.place(image, output, position)
        result = self.epilogue.at(place, value, self.problem.first_axis, self.problem.position_axes)
        T.buffer_store(self.epilogue.output, result, place)

    def place(self, image: Any, output: Any, position: Expression) -> list[Any]:
        """Where the element of an output (its block and lane, where the output is blocked) and a position lies."""
        problem, shape = self.problem, static_shape(self.epilogue.output)
        place: list[Any] = [0] * len(shape)
        run = problem.position_axes
        place[problem.first_axis + run - 1] = position
        if problem.first_axis == 0:
            place[-1] = output
        else:
            place[0] = image
            if isinstance(output, tuple):
                place[1], place[-1] = output
            else:
                place[1] = output
        return place


def vector_at(buffer: AnyBuffer, at: Expression, lanes: int) -> Expression:
    """`lanes` neighbouring elements of a buffer, counted in memory order."""
    return tirx.BufferLoad(buffer, [*_zeros(buffer), tirx.Ramp(whole(at), whole(1), whole(lanes))])


def store_vector(buffer: AnyBuffer, at: Expression, value: Expression, lanes: int) -> None:
    """Stores `lanes` neighbouring elements."""
    T.buffer_store(buffer, value, [*_zeros(buffer), tirx.Ramp(whole(at), whole(1), whole(lanes))])


def _zeros(buffer: AnyBuffer) -> list[Any]:
    return [0] * (len(static_shape(buffer)) - 1)


def whole(value: Any) -> Any:
    """A number as an expression."""
    return tirx.IntImm("int32", value) if isinstance(value, int) else value
