"""A node of a graph as a task for the schedule templates."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir.graph import Graph, Node, Value
from edgeir.ir.op import Pattern
from edgeir.ir.types import TensorType
from edgeir.lowering import te
from edgeir.lowering.compute.apply import apply
from edgeir.lowering.compute.convolution import add_bias
from edgeir.lowering.compute.registry import Call, physical
from edgeir.lowering.compute.storage import carrier
from edgeir.lowering.compute.tables import Tables
from edgeir.lowering.compute.windows import Channels
from edgeir.lowering.layouts import to_physical
from edgeir.schedules.task import AnchorCompute, Operand, Task, TensorSpec

BIAS = {"conv": 2, "conv_transpose": 2}
"""Anchors whose bias is added by the epilogue: the position of the bias among their operands."""


@dataclass(frozen=True)
class Region:
    """The nodes that become one kernel.

    Attributes:
        nodes: the nodes in order.
        inputs: the values that they read from outside, as they know them.
        outer: the same values in the graph that the kernel is called from.
        outputs: the values that they hand out.
        anchor: the node that does the heavy work, or None.
        label: the anchor's name, or the pattern of the region.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[Value, ...]
    outer: tuple[Value, ...]
    outputs: tuple[Value, ...]
    anchor: Node | None
    label: str


@dataclass(frozen=True)
class Lowering:
    """A task, and where the arguments of its kernel come from.

    Attributes:
        task: the task.
        sources: for each operand the value in the graph, or the physical array of a constant.
    """

    task: Task
    sources: tuple[Value | np.ndarray, ...]


_STRENGTH = (Pattern.OPAQUE, Pattern.REDUCTION, Pattern.INJECTIVE, Pattern.ELEMENTWISE)


def region_of(node: Node) -> Region:
    """The region of a `fused` node, or of any other node by itself.

    Raises:
        EdgeIRError: a fused node lacks an operand.
    """
    if node.op != "fused":
        values = tuple(dict.fromkeys(v for v in node.present_inputs if not _is_scalar(v)))
        anchored = node.definition.pattern is Pattern.ANCHOR
        label = node.op if anchored else node.definition.pattern.value
        return Region((node,), values, values, node.outputs, node if anchored else None, label)
    body: Graph = node.attributes["body"]
    nodes = tuple(body.nodes)
    outer = node.present_inputs
    if len(outer) != len(body.inputs):
        raise EdgeIRError("a fused node lacks operands", where=str(node), expected=len(body.inputs), got=len(outer))
    name = node.attributes["anchor"]
    anchor = next((inner for inner in nodes if inner.op == name), None)
    found = {inner.definition.pattern for inner in nodes}
    label = name or next((p.value for p in _STRENGTH if p in found), Pattern.ELEMENTWISE.value)
    return Region(nodes, body.inputs, outer, body.outputs, anchor, label)


def _is_scalar(value: Value) -> bool:
    return value.is_constant and value.data.size == 1 and not value.type.layout


def lower_node(node: Node, name: str) -> Lowering:
    """The task of a node.

    Args:
        node: a `fused` node, or any other.
        name: symbol name of the kernel.

    Raises:
        UnsupportedModelError: an operator cannot be compiled.
        EdgeIRError: a dimension is symbolic.
    """
    region = region_of(node)
    padded = _padded_biases(region)
    operands, sources = [], []
    for position, (inner, outer) in enumerate(zip(region.inputs, region.outer, strict=True)):
        shape = padded.get(position, physical(inner.type))
        spec = TensorSpec(shape, carrier(inner.type.dtype), inner.type.layout)
        operands.append(Operand(f"p{position}", spec, outer.is_constant))
        sources.append(outer if position not in padded else _padded(outer, shape))
    tables = Tables()
    _build(region, [o.spec for o in operands], tables, None, {})
    count = len(region.inputs)
    for index, array in enumerate(tables.arrays):
        operands.append(Operand(f"p{count + index}", TensorSpec(array.shape, array.dtype.name), True))
        sources.append(array)
    outputs = tuple(_spec(value.type) for value in region.outputs)
    specs = [o.spec for o in operands]

    def build(
        anchor: AnchorCompute | None = None, packed: Mapping[int, tuple[int, ...]] | None = None
    ) -> tuple[list[te.Tensor], list[te.Tensor]]:
        found = Tables()
        placeholders, results = _build(region, specs[:count], found, anchor, packed or {})
        return [*placeholders, *found.placeholders], results

    heavy = region.anchor
    anchor_values = [] if heavy is None else _anchor_values(heavy)
    task = Task(
        name=name,
        anchor=region.label,
        attributes={} if heavy is None else heavy.attributes,
        anchor_inputs=tuple(_spec(value.type) for value in anchor_values),
        anchor_output=outputs[0] if heavy is None else _spec(heavy.outputs[0].type),
        anchor_operands=tuple(_operand_index(region, value) for value in anchor_values),
        operands=tuple(operands),
        outputs=outputs,
        build=build,
        key=_key(region, operands),
    )
    return Lowering(task, tuple(sources))


def _spec(type: TensorType) -> TensorSpec:
    return TensorSpec(physical(type), carrier(type.dtype), type.layout)


def _anchor_values(anchor: Node) -> list[Value]:
    bias = BIAS.get(anchor.op)
    return [v for i, v in enumerate(anchor.inputs) if v is not None and i != bias]


def _operand_index(region: Region, value: Value) -> int | None:
    """Which operand an anchor's input is; None where the body computes it, or where something else reads it too."""
    if value not in region.inputs:
        return None
    readers = sum(v is value for node in region.nodes for v in node.present_inputs)
    index = region.inputs.index(value)
    constant = region.outer[index].is_constant
    return None if constant and (readers > 1 or value in region.outputs) else index


def _padded_biases(region: Region) -> dict[int, tuple[int, ...]]:
    """Constant biases that are padded to whole channel blocks, so that the epilogue reads them without a bound."""
    anchor = region.anchor
    if anchor is None or anchor.op not in BIAS or len(anchor.inputs) <= BIAS[anchor.op]:
        return {}
    bias, channels = anchor.inputs[BIAS[anchor.op]], Channels.of(anchor.outputs[0].type)
    if bias is None or not channels.has_lanes_beyond or bias not in region.inputs:
        return {}
    index = region.inputs.index(bias)
    readers = sum(v is bias for node in region.nodes for v in node.present_inputs)
    if readers > 1 or bias in region.outputs or not region.outer[index].is_constant:
        return {}
    return {index: (-(-channels.count // channels.block) * channels.block,)}


def _padded(value: Value, shape: tuple[int, ...]) -> np.ndarray:
    array = to_physical(value.data, value.type)
    return np.pad(array, (0, shape[0] - array.shape[0]))


def _build(
    region: Region,
    specs: Sequence[TensorSpec],
    tables: Tables,
    anchor: AnchorCompute | None,
    packed: Mapping[int, tuple[int, ...]],
) -> tuple[list[te.Tensor], list[te.Tensor]]:
    placeholders = [te.placeholder(packed.get(i, spec.shape), spec.dtype, name=f"p{i}") for i, spec in enumerate(specs)]
    tensors: dict[Value, te.Tensor] = dict(zip(region.inputs, placeholders, strict=True))
    for node in region.nodes:
        call = _call(node, tensors, tables)
        if node is region.anchor and anchor is not None:
            inputs = [_tensor(call, node, value, tensors) for value in _anchor_values(node)]
            result = anchor(inputs)
            results = [add_bias(call, result, BIAS[node.op]) if node.op in BIAS else result]
        else:
            results = apply(call)
        tensors.update(zip(node.outputs, results, strict=True))
    outputs: list[te.Tensor] = []
    for value in region.outputs:
        tensor = tensors[value]
        if any(tensor.same_as(other) for other in (*placeholders, *outputs)):
            tensor = _copy(tensor)
        outputs.append(tensor)
    return placeholders, outputs


def _copy(tensor: te.Tensor) -> te.Tensor:
    return te.compute(tensor.shape, lambda *i: tensor(*i), name="copy")


def _call(node: Node, tensors: Mapping[Value, te.Tensor], tables: Tables) -> Call:
    return Call(
        node.op,
        [None if v is None else tensors.get(v) for v in node.inputs],
        [None if v is None else v.type for v in node.inputs],
        [v.data if v is not None and v not in tensors and v.is_constant else None for v in node.inputs],
        node.attributes,
        [v.type for v in node.outputs],
        tables,
    )


def _tensor(call: Call, node: Node, value: Value, tensors: Mapping[Value, te.Tensor]) -> te.Tensor:
    return tensors[value] if value in tensors else call.tensor(node.inputs.index(value))


def _key(region: Region, operands: Sequence[Operand]) -> str:
    """Text that identifies the computation whatever its values are called."""
    names: dict[Value, str] = {value: f"p{i}" for i, value in enumerate(region.inputs)}
    lines = [f"{o.name}: {o.spec.dtype}{list(o.spec.shape)}{o.spec.layout} {o.constant:d}" for o in operands]
    lines += [f"{names[v]}: {v.type}" for v in region.inputs]

    def text(value: Value | None) -> str:
        if value is None:
            return "_"
        if value not in names:
            # A scalar constant is part of the computation.
            return f"{value.type}={np.ascontiguousarray(value.data).tobytes().hex()}"
        return names[value]

    for node in region.nodes:
        inputs = ", ".join(text(v) for v in node.inputs)
        for output in node.outputs:
            names[output] = f"v{len(names)}"
        attributes = ", ".join(f"{k}={v}" for k, v in sorted(node.attributes.items()))
        outputs = ", ".join(f"{names[v]}: {v.type}" for v in node.outputs)
        mark = " anchor" if node is region.anchor else ""
        lines.append(f"{outputs} = {node.op}({inputs}) {{{attributes}}}{mark}")
    lines.append(f"return {', '.join(names.get(v) or text(v) for v in region.outputs)}")
    return "\n".join(lines)


def short_key(task: Task) -> str:
    """A hash of the task's key, for names and tables."""
    return hashlib.sha256(task.key.encode()).hexdigest()[:12]


def kernel_name(node: Node, used: Callable[[str], bool]) -> str:
    """A symbol name that tells the operators in a kernel, and that is not used yet."""
    ops = [inner.op for inner in region_of(node).nodes]
    stem = "_".join(dict.fromkeys(ops))[:48]
    if not used(stem):
        return stem
    count = 1
    while used(f"{stem}_{count}"):
        count += 1
    return f"{stem}_{count}"
