"""Graphs: SSA with use lists, edited only through checked methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir.dtype import dtype_name
from edgeir.ir.graph_reader import GraphReader, Listener
from edgeir.ir.inference import infer_types
from edgeir.ir.op import find_op
from edgeir.ir.types import TensorType
from edgeir.ir.values import Node, Value

__all__ = ["Graph", "Listener", "Node", "Value"]


class Graph(GraphReader):
    """A network: inputs, constants, nodes in an order that respects dependences, named outputs.

    Every method that edits checks first and raises `EdgeIRError` before anything changes. Iterating over
    `nodes` while editing is safe: erased nodes are skipped, nodes inserted later in the order are visited.
    """

    def rename(self, value: Value, name: str) -> None:
        """Gives a value another name.

        Raises:
            EdgeIRError: the name is taken.
        """
        self._own(value)
        if self._names.get(name, value) is not value:
            raise EdgeIRError("a value of this name exists", got=name, where=f"graph {self.name}")
        del self._names[value.name]
        value.name = name
        self._names[name] = value
        self.version += 1

    # Building

    def add_input(self, name: str, type: TensorType) -> Value:
        """Appends an input.

        Raises:
            EdgeIRError: the name is taken.
        """
        self._check_new_name(name)
        value = Value(self, name, type, None, len(self._inputs))
        self._inputs.append(value)
        self._names[name] = value
        self.version += 1
        return value

    def add_constant(self, array: np.ndarray | np.generic, name: str = "constant", layout: str = "") -> Value:
        """Adds a constant; the array is not copied and becomes read-only. The name is made unique.

        Raises:
            EdgeIRError: tensors of this dtype cannot be expressed.
        """
        array = np.asarray(array)
        type = TensorType(dtype_name(array.dtype), array.shape, layout)
        if array.flags.writeable:
            array = array.view()
            array.flags.writeable = False
        value = Value(self, self.fresh_name(name), type, None, 0)
        value._data = array
        self._constants[value] = None
        self._names[value.name] = value
        self.version += 1
        return value

    def add_node(
        self,
        op: str,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        names: Sequence[str] = (),
        before: Node | None = None,
        location: str = "",
        output_layouts: Sequence[str] | None = None,
    ) -> Node:
        """Appends a node (or inserts it before another), with inferred output types.

        Args:
            op: name of a registered operator.
            inputs: operands; None for an absent optional one.
            attributes: attribute values; defaults are filled in.
            names: wanted names of the outputs, made unique.
            before: the node to stand before; the end of the graph if None.
            location: where the node comes from.
            output_layouts: layouts of the outputs where the operator leaves the choice open (`conv`).

        Raises:
            EdgeIRError: unknown operator, wrong arity or attributes, types that do not fit, an operand of another
                graph, or one that does not come before.
        """
        operator = find_op(op)
        operands = tuple(inputs)
        place = location or (names[0] if names else op)
        if before is not None:
            self._check_node(before)
        try:
            normalized = operator.normalize(attributes or {})
            operator.check_arity(operands)
            types = infer_types(operator, operands, normalized, output_layouts)
        except EdgeIRError as error:
            if error.where is None:
                error = type(error)(
                    error.what, where=f"node {place!r} ({op})", expected=error.expected, got=error.got, hint=error.hint
                )
            raise error from None
        for value in operands:
            if value is not None:
                self._own(value)
                self._check_before(value, before)
        node = Node(self, op, operands, location)
        node.attributes = normalized
        outputs = []
        for position, output_type in enumerate(types):
            stem = names[position] if position < len(names) and names[position] else op
            value = Value(self, self.fresh_name(stem), output_type, node, position)
            self._names[value.name] = value
            outputs.append(value)
        node.outputs = tuple(outputs)
        self._order.insert(node, before)
        for position, value in enumerate(operands):
            if value is not None:
                value._uses[(node, position)] = None
        self._notify("insert", node)
        return node

    # Editing

    def set_outputs(self, outputs: Mapping[str, Value] | Sequence[tuple[str, Value]]) -> None:
        """Sets the named outputs.

        Raises:
            EdgeIRError: a name appears twice, or a value is not of this graph.
        """
        pairs = list(outputs.items()) if isinstance(outputs, Mapping) else list(outputs)
        if len({name for name, _ in pairs}) != len(pairs):
            raise EdgeIRError("output names must differ", got=", ".join(name for name, _ in pairs))
        for _, value in pairs:
            self._own(value)
        for _, value in self._outputs:
            value._output_uses -= 1
        self._outputs = pairs
        for _, value in pairs:
            value._output_uses += 1
        self.version += 1

    def set_input(self, node: Node, index: int, value: Value | None) -> None:
        """Makes a node read another value at one operand.

        Raises:
            EdgeIRError: no such operand, another graph, the value comes later, or its type differs so that the
                node's output types would change.
        """
        operands = list(node.inputs)
        if not 0 <= index < len(operands):
            raise EdgeIRError(f"{node.op} has no input {index}", where=str(node))
        operands[index] = value
        self.set_inputs(node, operands)

    def set_inputs(self, node: Node, inputs: Sequence[Value | None]) -> None:
        """Replaces all operands of a node; its output types must stay the same.

        Raises:
            EdgeIRError: as `set_input`, or wrong arity.
        """
        self._check_node(node)
        operator = node.definition
        operands = tuple(inputs)
        operator.check_arity(operands)
        for value in operands:
            if value is not None:
                self._own(value)
                self._check_before(value, node)
        old = tuple(None if value is None else value.type for value in node.inputs)
        new = tuple(None if value is None else value.type for value in operands)
        if old != new:
            self._check_types(node, operands, node.attributes)
        for position, value in enumerate(node._inputs):
            if value is not None:
                del value._uses[(node, position)]
        node._inputs = operands
        for position, value in enumerate(operands):
            if value is not None:
                value._uses[(node, position)] = None
        self._notify("change", node)

    def set_attributes(self, node: Node, attributes: Mapping[str, Any]) -> None:
        """Replaces a node's attributes; its output types must stay the same.

        Raises:
            EdgeIRError: wrong attributes, or types would change.
        """
        self._check_node(node)
        normalized = node.definition.normalize(attributes)
        self._check_types(node, node.inputs, normalized)
        node.attributes = normalized
        self._notify("change", node)

    def replace_all_uses(self, old: Value, new: Value) -> None:
        """Makes every user of `old`, the graph's outputs included, read `new`.

        Raises:
            EdgeIRError: types differ, or a user stands before `new`.
        """
        self._own(old)
        self._own(new)
        if old is new:
            return
        if old.type != new.type:
            raise EdgeIRError("cannot replace a value by one of another type", expected=repr(old), got=repr(new))
        if new.producer is not None:
            for user in old.users:
                self._check_before(new, user)
        touched = old.users
        for node, position in old.uses:
            operands = list(node._inputs)
            operands[position] = new
            node._inputs = tuple(operands)
            new._uses[(node, position)] = None
        old._uses.clear()
        if old._output_uses:
            self._outputs = [(name, new if value is old else value) for name, value in self._outputs]
            new._output_uses += old._output_uses
            old._output_uses = 0
        self.version += 1
        for node in touched:
            self._notify("change", node)

    def erase(self, node: Node) -> None:
        """Removes a node whose results nobody uses.

        Raises:
            EdgeIRError: a result is still used.
        """
        self._check_node(node)
        for value in node.outputs:
            if value.is_used:
                users = ", ".join(str(user) for user in value.users) or "the graph's outputs"
                raise EdgeIRError("cannot erase a node whose result is used", where=str(node), got=f"used by {users}")
        for position, value in enumerate(node._inputs):
            if value is not None:
                del value._uses[(node, position)]
        for value in node.outputs:
            del self._names[value.name]
            value._graph = None
        self._order.remove(node)
        node._graph = None
        self._notify("erase", node)

    def replace_node(self, node: Node, values: Sequence[Value]) -> None:
        """Makes users of the node's results read `values` instead, and erases the node.

        Raises:
            EdgeIRError: the number or a type differs, or a user stands before a value.
        """
        self._check_node(node)
        if len(values) != len(node.outputs):
            raise EdgeIRError(
                "wrong number of replacement values", where=str(node), expected=len(node.outputs), got=len(values)
            )
        for old, new in zip(node.outputs, values, strict=True):
            self._own(new)
            if old.type != new.type:
                raise EdgeIRError("cannot replace a value by one of another type", expected=repr(old), got=repr(new))
            if new.producer is not None:
                for user in old.users:
                    self._check_before(new, user)
        for old, new in zip(node.outputs, values, strict=True):
            self.replace_all_uses(old, new)
        self.erase(node)

    def move_before(self, node: Node, other: Node) -> None:
        """Moves a node to stand right before another.

        Raises:
            EdgeIRError: an operand would come after it, or a user before it.
        """
        self._check_node(node)
        self._check_node(other)
        if node is other:
            return
        for value in node.present_inputs:
            self._check_before(value, other)
        for value in node.outputs:
            for user in value.users:
                if user is not other and user._order < other._order:
                    raise EdgeIRError("a user would stand before the node", where=str(node), got=str(user))
        self._order.remove(node)
        self._order.insert(node, other)
        self.version += 1

    def remove_unused_constants(self) -> int:
        """Drops constants that nobody uses; returns how many."""
        unused = [value for value in self._constants if not value.is_used]
        for value in unused:
            del self._constants[value]
            del self._names[value.name]
            value._graph = None
        if unused:
            self.version += 1
        return len(unused)

    def remove_input(self, value: Value) -> None:
        """Removes an input that nobody uses.

        Raises:
            EdgeIRError: it is used, or not an input.
        """
        self._own(value)
        if not value.is_input or value.is_used:
            raise EdgeIRError("only an unused input can be removed", where=repr(value))
        self._inputs.remove(value)
        for index, remaining in enumerate(self._inputs):
            remaining.index = index
        del self._names[value.name]
        value._graph = None
        self.version += 1

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Calls `listener` after every edit of a node, until the returned function is called."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def copy(self) -> Graph:
        """A deep copy of the structure; constant arrays are shared."""
        from edgeir.ir.clone import clone

        return clone(self)

    def bind(self, values: Mapping[str, int]) -> Graph:
        """A copy with symbolic dimensions fixed and all types inferred anew.

        Raises:
            EdgeIRError: the dimensions do not fit the graph.
        """
        from edgeir.ir.clone import clone

        return clone(self, values)

    def verify(self) -> None:
        """Checks every invariant of the IR.

        Raises:
            VerificationError: one is broken; the message names the node.
        """
        from edgeir.ir.verifier import verify

        verify(self)

    def __str__(self) -> str:
        from edgeir.ir.printer import print_graph

        return print_graph(self)
