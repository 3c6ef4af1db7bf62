"""Running statistics of batch_norm, which training updates."""

from __future__ import annotations

from edgeir.errors import EdgeIRError
from edgeir.ir.graph import Graph


def separate_statistics(graph: Graph) -> tuple[str, ...]:
    """Gives every batch_norm a mean and a variance of its own; returns their names.

    A graph made for training from scratch may share zeros and ones between layers.

    Raises:
        EdgeIRError: the statistics of a layer are not constants.
    """
    names: dict[str, None] = {}
    for node in list(graph.nodes):
        if node.op != "batch_norm":
            continue
        for position in (3, 4):
            value = node.input(position)
            if not value.is_constant:
                raise EdgeIRError(
                    "batch statistics need constants to be kept in",
                    where=str(node),
                    expected="mean and variance as constants",
                    got=repr(value),
                    hint="leave batch_statistics off",
                )
            if value.use_count > 1 or value.is_output:
                value = graph.add_constant(value.data, f"{node.outputs[0].name}_{('mean', 'variance')[position - 3]}")
                graph.set_input(node, position, value)
            names[value.name] = None
    return tuple(names)
