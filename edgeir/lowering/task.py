"""A node of a graph as a task for the schedule templates."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeir.ir.dtype import bits
from edgeir.ir.graph import Node, Value
from edgeir.ir.types import TensorType
from edgeir.lowering import te
from edgeir.lowering.attention import attention
from edgeir.lowering.compute.apply import apply
from edgeir.lowering.compute.convolution import add_bias
from edgeir.lowering.compute.integer import add_offset, conv_sums, matmul_sums
from edgeir.lowering.compute.recurrent import recurrence
from edgeir.lowering.compute.registry import Call, physical
from edgeir.lowering.compute.storage import carrier
from edgeir.lowering.compute.tables import Tables
from edgeir.lowering.compute.windows import Channels
from edgeir.lowering.integers import IntegerConstants, integer_constants, product_zeros
from edgeir.lowering.layouts import to_physical
from edgeir.lowering.ranges import quantized_floats_fit
from edgeir.lowering.region import Region, region_of
from edgeir.lowering.sparse import weight_sparsity
from edgeir.schedules.task import AnchorCompute, Compressed, Operand, PackedShape, Task, TensorSpec, View

BIAS = {"conv": 2, "conv_transpose": 2, "conv_integer": 2}
"""Anchors whose bias is added by the epilogue: the position of the bias among their operands."""


DECODERS = ("dequantize", "cast", "lookup", "log_dequantize")
"""Operators that make numbers of a compressed constant, their first operand."""


DECODING_ANCHORS = ("conv", "matmul", "conv_integer", "matmul_integer")
"""Operators whose right operand a kernel may decode from a constant."""


@dataclass(frozen=True)
class Lowering:
    """A task, and where the arguments of its kernel come from.

    Attributes:
        task: the task.
        sources: for each operand the value in the graph, or the physical array of a constant.
    """

    task: Task
    sources: tuple[Value | np.ndarray, ...]


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
    integers = integer_constants(region.anchor, lambda value: _constant(region, value))
    if integers is not None and quantized_floats_fit(region.nodes, lambda value: _constant(region, value)):
        integers = replace(integers, facts=replace(integers.facts, floats_fit=True))
    biases, offset = _biases(region, integers)
    operands, sources = [], []
    for position, (inner, outer) in enumerate(zip(region.inputs, region.outer, strict=True)):
        array = biases.get(position)
        shape = physical(inner.type) if array is None else array.shape
        spec = TensorSpec(shape, carrier(inner.type.dtype), inner.type.layout)
        operands.append(Operand(f"p{position}", spec, outer.is_constant))
        sources.append(outer if array is None else array)
    raw = None if integers is None else _RawSums(offset, integers.dynamic)
    tables = Tables()
    _build(region, [o.spec for o in operands], tables, None, {}, raw)
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
        placeholders, results = _build(region, specs[:count], found, anchor, packed or {}, raw)
        return [*placeholders, *found.placeholders], results

    def build_compressed(
        anchor: AnchorCompute, shape: tuple[int, ...], view: View
    ) -> tuple[list[te.Tensor], list[te.Tensor]]:
        assert decoded is not None
        found = Tables()
        placeholders, results = _build(region, specs[:count], found, anchor, {decoded: shape}, raw, {decoded: view})
        return [*placeholders, *found.placeholders], results

    heavy, decoded = region.anchor, compressed_operand(region)
    anchor_values = [] if heavy is None else _anchor_values(heavy)
    anchor_operands = tuple(_operand_index(region, value) for value in anchor_values)
    weight = region.outer[anchor_operands[1]] if len(anchor_values) > 1 and anchor_operands[1] is not None else None
    sparsity = weight_sparsity(heavy, weight.data if weight is not None and weight.is_constant else None)
    task = Task(
        name=name,
        anchor=region.label,
        attributes={} if heavy is None else heavy.attributes,
        anchor_inputs=tuple(_spec(value.type) for value in anchor_values),
        anchor_output=outputs[0] if heavy is None else _spec(heavy.outputs[0].type),
        anchor_operands=anchor_operands,
        operands=tuple(operands),
        outputs=outputs,
        build=build,
        key=_key(region, operands, integers) + (f"\nweight: {sparsity}" if sparsity else ""),
        integers=None if integers is None else integers.facts,
        compressed=None
        if decoded is None
        else Compressed(decoded, bits(region.inputs[decoded].type.dtype), build_compressed),
        sparsity=sparsity,
        recurrence=recurrence(heavy),
        # Its formulas are made without tables.
        # Its formulas are made without tables.
        attention=None
        if tables.arrays
        else attention(region, build, lambda node, tensors: _call(node, tensors, Tables())),
        zeros=product_zeros(heavy, region.inputs),
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


def compressed_operand(region: Region) -> int | None:
    """Which operand the region decodes into its anchor's right operand, a constant that nothing else reads."""
    anchor = region.anchor
    if anchor is None or anchor.op not in DECODING_ANCHORS or anchor.inputs[1] is None:
        return None
    value = anchor.input(1)
    while value not in region.inputs:
        node = value.producer
        if node is None or node not in region.nodes or node.op not in DECODERS or _readers(region, value) != 1:
            return None
        if any(_constant(region, other) is None for other in node.present_inputs[1:]):
            return None
        value = node.input(0)
    index = region.inputs.index(value)
    narrow = bits(value.type.dtype) <= 8 and not value.type.layout
    # Integer sums take 4-bit numbers as they are, though kernels want them as bytes.
    direct = anchor.op in ("conv_integer", "matmul_integer") and bits(value.type.dtype) == 4
    decoded = (direct or value is not anchor.input(1)) and _readers(region, value) == 1
    return index if narrow and decoded and region.outer[index].is_constant else None


def _readers(region: Region, value: Value) -> int:
    """How often a region reads or hands out a value."""
    return sum(v is value for node in region.nodes for v in node.present_inputs) + region.outputs.count(value)


def _constant(region: Region, value: Value) -> np.ndarray | None:
    """The array of a value that is constant where the kernel is called, or looked up from constants in its body."""
    if value in region.inputs:
        outer = region.outer[region.inputs.index(value)]
        return outer.data if outer.is_constant else None
    if value.is_constant:
        return value.data
    producer = value.producer
    if producer is None or producer.op != "lookup":
        return None
    found = [_constant(region, v) for v in producer.present_inputs]
    if any(array is None for array in found):
        return None
    return producer.definition.evaluate(found, producer.attributes)[0]


def _biases(region: Region, integers: IntegerConstants | None) -> tuple[dict[int, np.ndarray], np.ndarray | None]:
    """Constant biases in the form in which kernels read them, and what integer sums need added beside a bias.

    A bias is padded to whole channel blocks, so that the epilogue reads it without a bound, and what a zero point adds
    is added to it.
    """
    anchor = region.anchor
    if anchor is None or anchor.op not in ("matmul_integer", *BIAS):
        return {}, None
    offset = None if integers is None else integers.offset
    if anchor.op == "matmul_integer":
        return {}, offset
    channels = Channels.of(anchor.outputs[0].type)
    length = -(-channels.count // channels.block) * channels.block if channels.has_lanes_beyond else channels.count
    if offset is not None:
        offset = np.pad(offset, (0, length - len(offset)))
    bias = anchor.inputs[BIAS[anchor.op]] if len(anchor.inputs) > BIAS[anchor.op] else None
    if bias is None or bias not in region.inputs or (length == channels.count and offset is None):
        return {}, offset
    index = region.inputs.index(bias)
    readers = sum(v is bias for node in region.nodes for v in node.present_inputs)
    if readers > 1 or bias in region.outputs or not region.outer[index].is_constant:
        return {}, offset
    array = to_physical(region.outer[index].data, region.outer[index].type)
    array = np.pad(array, (0, length - len(array)))
    return {index: array if offset is None else array + offset}, None


@dataclass(frozen=True)
class _RawSums:
    """The anchor computes raw sums; `offset` is what makes them sums of differences, None for nothing.

    If `dynamic`, the offset is multiplied by the left zero point first.
    """

    offset: np.ndarray | None
    dynamic: bool = False

    def complete(self, call: Call, sums: te.Tensor, tables: Tables) -> te.Tensor:
        return sums if self.offset is None else add_offset(call, sums, tables.add(self.offset), self.dynamic)

    def by_definition(self, call: Call) -> te.Tensor:
        return conv_sums(call, raw=True) if call.op == "conv_integer" else matmul_sums(call, raw=True)


def _build(
    region: Region,
    specs: Sequence[TensorSpec],
    tables: Tables,
    anchor: AnchorCompute | None,
    packed: Mapping[int, tuple[int, ...]],
    raw: _RawSums | None,
    views: Mapping[int, View] | None = None,
) -> tuple[list[te.Tensor], list[te.Tensor]]:
    placeholders = [_placeholder(f"p{i}", spec, packed.get(i, spec.shape)) for i, spec in enumerate(specs)]
    tensors: dict[Value, te.Tensor] = dict(zip(region.inputs, placeholders, strict=True))
    for index, view in (views or {}).items():
        tensors[region.inputs[index]] = _viewed(placeholders[index], specs[index], view)
    for node in region.nodes:
        call = _call(node, tensors, tables)
        if node is region.anchor and (anchor is not None or raw is not None):
            inputs = [_tensor(call, node, value, tensors) for value in _anchor_values(node)]
            if anchor is not None:
                result = anchor(inputs)
                if isinstance(result, list | tuple):
                    tensors.update(zip(node.outputs, result, strict=True))
                    continue
            else:
                assert raw is not None
                result = raw.by_definition(call)
            if raw is not None:
                result = raw.complete(call, result, tables)
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


def _placeholder(name: str, spec: TensorSpec, shape: tuple[int, ...]) -> te.Tensor:
    return te.placeholder(tuple(shape), shape.dtype if isinstance(shape, PackedShape) else spec.dtype, name=name)


def _viewed(packed: te.Tensor, spec: TensorSpec, view: View) -> te.Tensor:
    return te.compute(spec.shape, lambda *index: view(packed, index), name="unpacked")


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


def _key(region: Region, operands: Sequence[Operand], integers: IntegerConstants | None) -> str:
    """Text that identifies the computation whatever its values are called."""
    names: dict[Value, str] = {value: f"p{i}" for i, value in enumerate(region.inputs)}
    lines = [f"{o.name}: {o.spec.dtype}{list(o.spec.shape)}{o.spec.layout} {o.constant:d}" for o in operands]
    lines += [f"{names[v]}: {v.type}" for v in region.inputs]
    lines += [] if integers is None else [str(integers.facts)]

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
