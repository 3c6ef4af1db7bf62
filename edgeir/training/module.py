"""A graph as a torch module, and its weights back in a graph."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import edgeir.ops  # noqa: F401 (registers the operators)
from edgeir.errors import EdgeIRError
from edgeir.ir.graph import Graph
from edgeir.ir.shapes import symbol_sizes
from edgeir.ir.values import Value
from edgeir.training.blocked_gradient import attach_error
from edgeir.training.constant_replacement import set_constant, with_constants
from edgeir.training.execution_plan import ExecutionPlan
from edgeir.training.fake_quantization import SMALLEST_SCALE
from edgeir.training.parameter_names import parameter_name, value_name
from edgeir.training.running_statistics import separate_statistics
from edgeir.training.tensor_conversion import held_dtype, to_array, to_tensor
from edgeir.training.torch_ops.registry import RunState
from edgeir.training.trainable_constants import is_trainable, quantization_scales

Inputs = Mapping[str, Tensor] | Sequence[Tensor] | Tensor
_PLANS = 8
"""Plans kept, one for each set of input sizes (a last batch is smaller than the others)."""
_MASK = "mask%:"
"""Prefix of mask buffers; no escaped name holds it."""


class GraphModule(torch.nn.Module):
    """Runs a graph in torch with the semantics of the reference evaluator.

    Trainable constants are parameters named after their values (`parameter_names.py` for characters that torch
    forbids), all others buffers. `quantize` and `dequantize` are fake quantization with the clipped straight-through
    estimator, so that weights under them are trained as floats.

    Args:
        graph: the graph; the module keeps a copy. Symbolic dimensions take the sizes of each call's inputs.
        trainable: which constants are parameters; by default weights, biases, scales and biases of normalisations
            (`is_trainable`).
        learned_scales: whether scales of fake quantization are parameters, with LSQ's gradients.
        batch_statistics: whether `batch_norm` normalises with the batch's statistics in training mode and updates the
            running ones, as training from scratch needs; otherwise they are frozen.
        momentum: weight of the batch's statistics in the running ones.

    Raises:
        EdgeIRError: `trainable` chooses a constant that is not floating or that no gradient can reach, or with
            `batch_statistics` the statistics of a batch_norm are not constants.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        trainable: Callable[[Value], bool] | None = None,
        learned_scales: bool = False,
        batch_statistics: bool = False,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        self.graph = graph.copy()
        self.batch_statistics, self.momentum = batch_statistics, momentum
        self._statistics = separate_statistics(self.graph) if batch_statistics else ()
        self._scales = quantization_scales(self.graph) if learned_scales else {}
        self._plans: OrderedDict[tuple[tuple[str, int], ...], ExecutionPlan] = OrderedDict()
        self._stored: dict[str, str] = {}
        # Follows .double(), .half() and .to(device).
        self.register_buffer("_precision", torch.zeros(0), persistent=False)
        chosen = [value for value in self.graph.constants if (trainable or is_trainable)(value)]
        chosen += [self.graph.value(name) for name, owner in self._scales.items() if name == owner]
        parameters = dict.fromkeys(value.name for value in chosen)
        for value in self.graph.constants:
            name = parameter_name(value.name, lambda name: hasattr(self, name))
            if self._scales.get(value.name, value.name) != value.name:
                continue
            self._stored[value.name] = name
            tensor = to_tensor(value.data)
            if value.name not in parameters:
                self.register_buffer(name, tensor, persistent=value.name in self._statistics)
                continue
            if not tensor.is_floating_point():
                raise EdgeIRError("only floating constants can be trained", got=repr(value))
            self.register_parameter(name, torch.nn.Parameter(tensor))
        self._parameter_values = tuple(parameters)
        self._check_reached()
        self.register_load_state_dict_pre_hook(_prepare_masks)

    # Names

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the graph's inputs, in order."""
        return tuple(value.name for value in self.graph.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the graph's outputs, in order."""
        return self.graph.output_names

    @property
    def trained_values(self) -> tuple[str, ...]:
        """Names of the IR values that are parameters."""
        return self._parameter_values

    def weight(self, name: str) -> Tensor:
        """The parameter (or buffer) of a constant, by the name of the IR value.

        Raises:
            EdgeIRError: there is no such constant.
        """
        stored = self._stored.get(self._scales.get(name, name))
        if stored is None:
            raise EdgeIRError("no constant of this name", got=name, where=f"graph {self.graph.name}")
        return getattr(self, stored)

    @staticmethod
    def value_name(parameter: str) -> str:
        """The name of the IR value of a parameter's or buffer's name (`named_parameters`, `state_dict`)."""
        return value_name(parameter)

    # Masks

    @property
    def masks(self) -> dict[str, Tensor]:
        """IR value name → bool tensor, false where a weight is pruned."""
        return {
            value_name(name.removeprefix(_MASK)): buffer
            for name, buffer in self.named_buffers()
            if name.startswith(_MASK)
        }

    def set_mask(self, name: str, mask: Tensor | np.ndarray | None) -> None:
        """Prunes elements of a weight: they are exactly 0 in `forward` and `to_graph`, and get no gradient.

        Args:
            name: name of the IR value.
            mask: bool (or numbers, of which 0 means pruned), of the weight's shape; None removes the mask.

        Raises:
            EdgeIRError: no such parameter, or another shape.
        """
        if name not in self._parameter_values:
            raise EdgeIRError("only a parameter can have a mask", expected="a trainable constant", got=name)
        buffer = _MASK + self._stored[name]
        if mask is None:
            self._drop(buffer)
            return
        weight = self.weight(name)
        keep = torch.as_tensor(mask).to(weight.device) != 0
        if keep.shape != weight.shape:
            raise EdgeIRError(
                "mask has the wrong shape", where=f"%{name}", expected=list(weight.shape), got=list(keep.shape)
            )
        self._drop(buffer)
        self.register_buffer(buffer, keep.clone())
        with torch.no_grad():
            weight.masked_fill_(~keep, 0)

    def _drop(self, buffer: str) -> None:
        if hasattr(self, buffer):
            delattr(self, buffer)

    def mask_zeros(self) -> tuple[str, ...]:
        """Masks the zeros of every weight of rank 2 and more that has some, as pruning left them; returns the names."""
        found = []
        for name in self._parameter_values:
            weight = self.weight(name)
            if weight.ndim >= 2 and bool((weight == 0).any()):
                self.set_mask(name, weight != 0)
                found.append(name)
        return tuple(found)

    def _masked(self, name: str) -> Tensor:
        weight = self.weight(name)
        mask = self._buffers.get(_MASK + self._stored[self._scales.get(name, name)])
        return weight if mask is None else torch.where(mask, weight, 0)

    # Running

    def forward(self, inputs: Inputs, capture: Collection[str] = ()) -> dict[str, Tensor]:
        """Runs the graph.

        Args:
            inputs: input name → tensor, or tensors in the order of the inputs, or the only one.
            capture: names of IR values to return as well. A quantized value is returned as the floats that hold it.

        Returns:
            Output name → tensor, and captured value's name → tensor.

        Raises:
            EdgeIRError: an input is missing, unknown, or of the wrong dtype or shape, a captured value does not
                exist, or a node cannot be computed. Where an output depends on parameters only through operators
                without a gradient, `backward` raises it.
        """
        given = self._named(inputs)
        precision = self._buffers["_precision"]
        assert precision is not None
        environment: dict[str, Tensor] = {}
        shapes: dict[Value, Sequence[int]] = {}
        for value in self.graph.inputs:
            tensor = self._checked(value, given[value.name], precision.dtype)
            environment[value.name], shapes[value] = tensor, tuple(tensor.shape)
        plan = self._plan(symbol_sizes(shapes))
        for value in self.graph.constants:
            environment[value.name] = self._masked(value.name)
        wanted = self._captured(plan, capture)
        state = RunState(
            precision.dtype,
            precision.device,
            self.training,
            self.batch_statistics,
            self.momentum,
            frozenset(self._scales),
            plan.weights,
        )
        plan.run(environment, state, {value.name for value in wanted.values()})
        results = {name: environment[value.name] for name, value in wanted.items()}
        for name, value in zip(plan.graph.output_names, plan.graph.outputs, strict=True):
            results[name] = plan.plain(value, environment[value.name], state)
        order = (*self.output_names, *(name for name in wanted if name not in self.output_names))
        values = wanted | dict(zip(plan.graph.output_names, plan.graph.outputs, strict=True))
        if torch.is_autocast_enabled(precision.device.type):
            results = {name: _widened(tensor, values[name], precision.dtype) for name, tensor in results.items()}
        return {name: self._guarded(plan, values[name], results[name]) for name in order}

    def _named(self, inputs: Inputs) -> dict[str, Tensor]:
        names = self.input_names
        if isinstance(inputs, Mapping):
            given = dict(inputs)
        else:
            tensors = [inputs] if isinstance(inputs, Tensor) else list(inputs)
            if len(tensors) != len(names):
                raise EdgeIRError(
                    "wrong number of inputs", expected=f"{len(names)}: {', '.join(names)}", got=len(tensors)
                )
            given = dict(zip(names, tensors, strict=True))
        for name in given:
            if name not in names:
                raise EdgeIRError("no such input", expected=", ".join(names) or "no inputs", got=name)
        for value in self.graph.inputs:
            if value.name not in given:
                raise EdgeIRError("an input is missing", expected=repr(value))
        return given

    def _checked(self, value: Value, tensor: Tensor, precision: torch.dtype) -> Tensor:
        held = held_dtype(value.type.dtype, precision)
        floating = tensor.is_floating_point() and held.is_floating_point
        if tensor.ndim != value.type.rank or not (floating or tensor.dtype == held):
            raise EdgeIRError(
                "input does not fit", expected=repr(value), got=f"{str(tensor.dtype)[6:]}{list(tensor.shape)}"
            )
        return tensor.to(held)

    def _plan(self, sizes: Mapping[str, int]) -> ExecutionPlan:
        key = tuple(sorted(sizes.items()))
        plan = self._plans.get(key)
        if plan is None:
            trained = {*self._parameter_values, *self._scales}
            plan = ExecutionPlan(self.graph.bind(sizes) if sizes else self.graph, trained)
            self._plans[key] = plan
            if len(self._plans) > _PLANS:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return plan

    def _captured(self, plan: ExecutionPlan, capture: Collection[str]) -> dict[str, Value]:
        outputs = dict(zip(plan.graph.output_names, plan.graph.outputs, strict=True))
        wanted = {}
        for name in capture:
            value = plan.graph.value(name)
            if outputs.get(name, value) is not value:
                raise EdgeIRError(
                    "a captured value has the name of an output that is another value", got=name, expected=outputs[name]
                )
            wanted[name] = value
        return wanted

    def _guarded(self, plan: ExecutionPlan, value: Value, tensor: Tensor) -> Tensor:
        node = plan.blocked.get(value.name)
        if node is None or tensor.requires_grad or not tensor.is_floating_point() or not torch.is_grad_enabled():
            return tensor
        return attach_error(tensor, node, value.name)

    # Gradients

    def check_gradients(self, names: Collection[str]) -> None:
        """Checks that gradients pass from outputs or values to a parameter.

        Args:
            names: names of outputs or IR values that a loss reads.

        Raises:
            EdgeIRError: none passes from one of them; the message names the node that stops them.
        """
        plan = ExecutionPlan(self.graph, {*self._parameter_values, *self._scales})
        outputs = dict(zip(self.graph.output_names, self.graph.outputs, strict=True))
        for name in names:
            value = outputs.get(name) or self.graph.value(name)
            if value.name not in plan.carrying:
                node = plan.blocked.get(value.name)
                raise EdgeIRError(
                    "no gradient passes from a value to the parameters",
                    where=f"%{value.name}" if node is None else str(node),
                    got=f"%{value.name} depends on no parameter" if node is None else f"{node.op} has no gradient",
                    hint="let the loss read a value before it (capture=…)",
                )

    def _check_reached(self) -> None:
        plan = ExecutionPlan(self.graph, self._parameter_values)
        for name in self._parameter_values:
            users = self.graph.value(name).users
            if users and not any(value.name in plan.carrying for node in users for value in node.outputs):
                raise EdgeIRError(
                    "no gradient reaches a constant that is to be trained",
                    where=str(users[0]),
                    got=f"%{name} is read by {', '.join(dict.fromkeys(node.op for node in users))} only",
                    hint="leave it out of trainable=…",
                )

    # Back to a graph

    def weights(self) -> dict[str, np.ndarray]:
        """IR value name → array of what training changed: parameters, masked, and running statistics."""
        arrays = {}
        names = [*self._parameter_values, *self._statistics, *(n for n in self._scales if self._scales[n] != n)]
        for name in names:
            tensor = self._masked(name)
            if name in self._scales:
                tensor = tensor.clamp(min=SMALLEST_SCALE)
            arrays[name] = to_array(tensor, self.graph.value(name).type.dtype)
        return arrays

    def to_graph(self) -> Graph:
        """The graph with the weights as they are now; masked elements are exactly 0."""
        return with_constants(self.graph, self.weights())

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphModule:
        names = set(self._parameter_values) - set(self._scales)
        other = GraphModule(
            self.graph,
            trainable=lambda value: value.name in names,
            learned_scales=bool(self._scales),
            batch_statistics=self.batch_statistics,
            momentum=self.momentum,
        )
        precision = self._buffers["_precision"]
        assert precision is not None
        other.to(precision.device)
        if precision.dtype != torch.float32:
            other.to(precision.dtype)
        other.load_state_dict(self.state_dict())
        for parameter, copied in zip(self.parameters(), other.parameters(), strict=True):
            copied.requires_grad_(parameter.requires_grad)
        return other.train(self.training)


def _widened(tensor: Tensor, value: Value, precision: torch.dtype) -> Tensor:
    """A result that autocast computed in less precision, as floats of the module."""
    narrow = tensor.dtype in (torch.float16, torch.bfloat16) and value.type.dtype == "float32"
    return tensor.to(precision) if narrow else tensor


def _prepare_masks(module: torch.nn.Module, state_dict: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
    """Gives a module the mask buffers that a saved state has, and no others."""
    saved = {key.removeprefix(prefix) for key in state_dict if key.startswith(prefix + _MASK)}
    for name in [name for name, _ in module.named_buffers() if name.startswith(_MASK) and name not in saved]:
        delattr(module, name)
    for name in saved:
        weight = getattr(module, name.removeprefix(_MASK), None)
        if isinstance(weight, Tensor):
            module.register_buffer(name, torch.ones_like(weight, dtype=torch.bool))


def update_from(graph: Graph, module: GraphModule) -> None:
    """Puts a module's weights into an existing graph that has the constants of the module's graph.

    Constants that nobody uses are dropped on the way.

    Raises:
        EdgeIRError: a constant is missing or has another type; nothing has changed then.
    """
    arrays = module.weights()
    for name in arrays:
        value, expected = graph.value(name), module.graph.value(name)
        if not value.is_constant or value.type != expected.type:
            raise EdgeIRError("the graph is not the module's", where=f"%{name}", expected=expected, got=repr(value))
    for name, array in arrays.items():
        set_constant(graph, name, array)
