"""A graph with fixed dimensions as steps that torch runs, and what is known of its values beforehand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from edgeir.errors import EdgeIRError
from edgeir.ir.graph import Graph
from edgeir.ir.types import TensorType
from edgeir.ir.values import Node, Value
from edgeir.training.fake_quantization import log_codes
from edgeir.training.tensor_conversion import FLOAT8, HALF, REFERENCE_ONLY, held_dtype, to_tensor
from edgeir.training.torch_ops.registry import (
    REFERENCE,
    Call,
    Representation,
    RunState,
    TorchOp,
    find_torch_op,
)


@dataclass(frozen=True)
class Held:
    """How a quantized value is held as floats; `bits` is that of its codes where it is POWERS."""

    representation: Representation
    bits: int = 0


@dataclass(frozen=True)
class Step:
    """One node to run.

    Attributes:
        node: the node, whose attributes are fixed.
        op: how torch computes it.
        widen: whether float16 and bfloat16 operands are computed in float32, as the reference does.
        converted: operands, by position, that must be turned into what the function takes.
        released: names of values that nothing reads afterwards.
    """

    node: Node
    op: TorchOp
    widen: bool
    converted: Mapping[int, Callable[[Tensor, RunState], Tensor]]
    released: tuple[str, ...]


class ExecutionPlan:
    """The steps of a graph.

    Attributes:
        graph: the graph, without symbolic dimensions.
        held: value name → how it is held, for quantized values held as floats.
        weights: names of values that depend on constants only.
        carrying: names of values through which gradients reach a parameter.
        blocked: name of a value that depends on a parameter → the node through which no gradient passes; for values
            that are not carrying.
    """

    def __init__(self, graph: Graph, parameters: Collection[str]) -> None:
        self.graph = graph
        self.held: dict[str, Held] = {}
        weights = {value.name for value in graph.constants}
        self.carrying: set[str] = set(parameters)
        self.blocked: dict[str, Node] = {}
        last_use: dict[str, Node] = {}
        for node in graph.nodes:
            for value in node.present_inputs:
                last_use[value.name] = node
        for value in graph.outputs:
            last_use.pop(value.name, None)
        released: dict[Node, list[str]] = {}
        for name, node in last_use.items():
            released.setdefault(node, []).append(name)
        self.steps = [self._step(node, tuple(released.get(node, ()))) for node in graph.nodes]
        for node in graph.nodes:
            if all(value.name in weights for value in node.present_inputs):
                weights |= {value.name for value in node.outputs}
        self.weights = frozenset(weights)

    def _step(self, node: Node, released: tuple[str, ...]) -> Step:
        op = find_torch_op(node.op) if node.op != "fused" else _body(node)
        sources = [(position, value) for position, value in enumerate(node.inputs) if value is not None]
        data = [value for position, value in sources if op.data is None or position in op.data]
        kept = self._kept(op, data)
        plain = {v.type.dtype for _, v in sources if v.name not in self.held} | {
            v.type.dtype for v in node.outputs if kept is None
        }
        if plain & REFERENCE_ONLY and not op.any_dtype:
            op, kept = REFERENCE, None
        made = self._made(node, kept)
        if made is not None:
            self.held[node.outputs[0].name] = made
        converted: dict[int, Callable[[Tensor, RunState], Tensor]] = {}
        for position, value in sources:
            held = self.held.get(value.name)
            if held is not None and (held.representation not in op.accepts or (op.keeps and kept is None)):
                converted[position] = _to_integers(held, value.type)
            elif held is None and kept is not None and value in data:
                converted[position] = _to_floats
        self._follow_gradients(node, op)
        half = any(value.type.dtype in HALF for value in (*node.present_inputs, *node.outputs))
        return Step(node, op, half and not op.moves and node.op != "cast", converted, released)

    def _kept(self, op: TorchOp, data: list[Value]) -> Held | None:
        """The representation that the result shares with the operands."""
        found = {self.held[value.name] for value in data if value.name in self.held}
        if not op.keeps or len(found) != 1:
            return None
        held = next(iter(found))
        whole = all(value.name in self.held for value in data)
        # Codes cannot be mixed with what they stand for.
        fits = held.representation in op.accepts and (whole or held.representation is Representation.INTEGERS)
        return held if fits else None

    def _made(self, node: Node, kept: Held | None) -> Held | None:
        if node.op == "quantize":
            return Held(Representation.INTEGERS)
        if node.op == "log_quantize":
            return Held(Representation.POWERS, node.attributes["bits"])
        return kept

    def _follow_gradients(self, node: Node, op: TorchOp) -> None:
        reached = [v.name for v in node.present_inputs if v.name in self.carrying]
        stopped = [self.blocked[v.name] for v in node.present_inputs if v.name in self.blocked]
        for value in node.outputs:
            floating = "float" in value.type.dtype or value.name in self.held
            if reached and op.gradient and floating:
                self.carrying.add(value.name)
            elif reached or stopped:
                self.blocked[value.name] = stopped[0] if stopped and not reached else node

    def run(self, environment: dict[str, Tensor], state: RunState, kept: Collection[str] = ()) -> None:
        """Computes every value, into the environment; those that nothing reads any more leave it.

        Args:
            environment: value name → tensor, of the inputs and constants.
            state: what the operators need to know of the module.
            kept: names of values that stay.

        Raises:
            EdgeIRError: torch cannot compute a node; the message names it.
        """
        for step in self.steps:
            results = _run_step(step, environment, state)
            for value, tensor in zip(step.node.outputs, results, strict=True):
                environment[value.name] = self._settled(value, tensor, step, state)
            for name in step.released:
                if name not in kept:
                    del environment[name]

    def _settled(self, value: Value, tensor: Tensor, step: Step, state: RunState) -> Tensor:
        """The tensor in the dtype that holds the value; floats stay as they are, but for 16-bit ones widened before."""
        dtype = value.type.dtype
        if value.name in self.held or ("float" in dtype and dtype not in HALF | FLOAT8):
            return tensor
        return tensor.to(held_dtype(dtype, state.precision))

    def plain(self, value: Value, tensor: Tensor, state: RunState) -> Tensor:
        """The value's tensor in its own element type, where it may be held as floats."""
        held = self.held.get(value.name)
        return tensor if held is None else _to_integers(held, value.type)(tensor, state)


def _run_step(step: Step, environment: Mapping[str, Tensor], state: RunState) -> tuple[Tensor, ...]:
    inputs: list[Tensor | None] = []
    for position, value in enumerate(step.node.inputs):
        tensor = None if value is None else environment[value.name]
        if tensor is not None and position in step.converted:
            tensor = step.converted[position](tensor, state)
        if tensor is not None and step.widen and tensor.dtype in (torch.float16, torch.bfloat16):
            tensor = tensor.float()
        inputs.append(tensor)
    try:
        results = step.op.function(Call(step.node, tuple(inputs), state))
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise EdgeIRError("torch cannot compute a node", where=str(step.node), got=str(error)) from error
    except EdgeIRError as error:
        if error.where is not None:
            raise
        raise EdgeIRError(
            error.what, where=str(step.node), expected=error.expected, got=error.got, hint=error.hint
        ) from error
    return results if isinstance(results, tuple) else (results,)


def _to_integers(held: Held, type: TensorType) -> Callable[[Tensor, RunState], Tensor]:
    def convert(tensor: Tensor, state: RunState) -> Tensor:
        if held.representation is Representation.POWERS:
            codes, _ = log_codes(tensor.detach().double(), held.bits)
            return codes.to(held_dtype(type.dtype))
        plain = tensor.detach()
        return (plain if type.dtype in FLOAT8 else plain.nan_to_num(0.0)).to(held_dtype(type.dtype))

    return convert


def _to_floats(tensor: Tensor, state: RunState) -> Tensor:
    return tensor.to(state.precision)


def _body(node: Node) -> TorchOp:
    """A fused node: its body's steps, run on the operands."""
    body: Graph = node.attributes["body"]
    plan = ExecutionPlan(body, [value.name for value in body.inputs if "float" in value.type.dtype])
    constants = {value.name: to_tensor(value.data) for value in body.constants}

    def run(call: Call) -> tuple[Tensor, ...]:
        environment = {
            name: tensor.to(call.state.device, call.dtype(body.value(name).type.dtype))
            for name, tensor in constants.items()
        }
        environment |= {value.name: tensor for value, tensor in zip(body.inputs, call.tensors(), strict=True)}
        plan.run(environment, call.state)
        return tuple(plan.plain(value, environment[value.name], call.state) for value in body.outputs)

    return TorchOp(run, any_dtype=True)
