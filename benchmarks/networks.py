"""The networks that the benchmarks run: the standard set by short name, or any ONNX file by path.

MobileNetV2 and ResNet-18 are written by this file (the standard 224×224 architectures with seeded random weights,
which is all that a timing needs); the others are real models in `../shared/models` beside the checkout.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeir.errors import EdgeIRError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "models"
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Network:
    """One model with fixed shapes.

    Attributes:
        name: what tables call it.
        path: its ONNX file.
        shapes: input name → sizes, for every input.
        integers: input name → (lowest, highest + 1) of the random integers that it gets; 0 or 1 if absent.
    """

    name: str
    path: Path
    shapes: Shapes
    integers: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Standard:
    make: Callable[[], Path]
    shapes: Shapes
    integers: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def network(name: str, shapes: Shapes | None = None) -> Network:
    """A network by short name or path.

    Args:
        name: a key of `STANDARD`, or the path of an ONNX file.
        shapes: input name → sizes; inputs that are not named keep the standard set's, or the file's, shape, a
            symbolic first dimension being 1.

    Raises:
        EdgeIRError: there is no such model, or a dimension stays open.
    """
    standard = STANDARD.get(name)
    if standard is None:
        path = Path(name)
        if not path.is_file():
            raise EdgeIRError(
                "There is no such network.", expected=f"a path, or one of {', '.join(STANDARD)}", got=repr(name)
            )
        return Network(path.stem, path, _all_shapes(path, shapes or {}))
    path = standard.make()
    if not path.is_file():
        raise EdgeIRError("The model's file is missing.", where=name, expected=path.name, hint="see ../shared/models")
    return Network(name, path, _all_shapes(path, {**standard.shapes, **(shapes or {})}), standard.integers)


def _all_shapes(path: Path, given: Shapes) -> Shapes:
    graph = onnx.load(str(path)).graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    unknown = sorted(set(given) - {value.name for value in inputs})
    if unknown:
        raise EdgeIRError("A shape names no input.", where=path.name, got=unknown, expected=[v.name for v in inputs])
    found: Shapes = {}
    for value in inputs:
        sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        # A first dimension that is open is the batch.
        sizes = [1 if size <= 0 and axis == 0 else size for axis, size in enumerate(sizes)]
        shape = given.get(value.name, tuple(sizes))
        if any(size <= 0 for size in shape):
            raise EdgeIRError(
                "A dimension is open.", where=f"{path.name}, input {value.name!r}", hint="give --shape NAME=1x3x64x64"
            )
        found[value.name] = tuple(shape)
    return found


def random_inputs(item: Network, seed: int = 0) -> dict[str, np.ndarray]:
    """Input name → seeded array: floats from a normal distribution, integers from the network's ranges."""
    generator = np.random.default_rng(seed)
    arrays = {}
    types = {v.name: v.type.tensor_type.elem_type for v in onnx.load(str(item.path)).graph.input}
    for name, shape in item.shapes.items():
        dtype = helper.tensor_dtype_to_np_dtype(types[name])
        if dtype.kind == "f":
            arrays[name] = generator.standard_normal(shape).astype(dtype)
        else:
            low, high = item.integers.get(name, (0, 2))
            arrays[name] = generator.integers(low, high, shape).astype(dtype)
    return arrays


def output_names(path: Path) -> list[str]:
    """The model's outputs in order."""
    return [value.name for value in onnx.load(str(path)).graph.output]


def cache_folder() -> Path:
    """Where generated models are kept: `edgeir/benchmarks` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "edgeir" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class _Writer:
    """Writes a convolutional network node by node."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights = [numpy_helper.from_array(np.array(v, np.float32), n) for v, n in ((0, "zero"), (6, "six"))]
        self.random = np.random.default_rng(0)

    def weight(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def op(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"{name}_{kind}", **attributes))
        return name

    def conv(self, x: str, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1, act: str = "") -> str:
        fan_in = cin // groups * kernel * kernel
        shape = (cout, cin // groups, kernel, kernel)
        w = self.weight(self.random.normal(0, (2 / fan_in) ** 0.5, shape))
        b = self.weight(self.random.normal(0, 0.1, cout))
        y = self.op(
            "Conv", [x, w, b], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4, group=groups
        )
        if act == "relu6":
            return self.op("Clip", [y, "zero", "six"])
        return self.op("Relu", [y]) if act == "relu" else y

    def classify(self, x: str, channels: int, classes: int = 1000) -> str:
        flat = self.op("Flatten", [self.op("GlobalAveragePool", [x])])
        w = self.weight(self.random.normal(0, channels**-0.5, (classes, channels)))
        return self.op("Gemm", [flat, w, self.weight(np.zeros(classes))], transB=1)

    def save(self, output: str, path: Path) -> None:
        def info(name: str, shape: list[int]) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

        inputs, outputs = [info("x", [1, 3, 224, 224])], [info(output, [1, 1000])]
        graph = helper.make_graph(self.nodes, path.stem, inputs, outputs, self.weights)
        _save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def _save(model: onnx.ModelProto, path: Path) -> None:
    onnx.checker.check_model(model)
    # Written aside and renamed, so that a run that is interrupted leaves no half of a model in the cache.
    partial = path.with_suffix(f".{os.getpid()}.partial")
    onnx.save(model, str(partial))
    partial.replace(path)


def mobilenet_v2() -> Path:
    """MobileNetV2 1.0 (Sandler et al. 2018, table 2), batch normalization folded."""
    path = cache_folder() / "mobilenetv2.onnx"
    if path.is_file():
        return path
    net = _Writer()
    x, channels = net.conv("x", 3, 32, 3, 2, act="relu6"), 32
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expand, width, repeats, first_stride in stages:
        for index in range(repeats):
            stride, hidden, y = first_stride if index == 0 else 1, channels * expand, x
            if expand != 1:
                y = net.conv(y, channels, hidden, 1, act="relu6")
            y = net.conv(y, hidden, hidden, 3, stride, hidden, act="relu6")
            y = net.conv(y, hidden, width, 1)
            x = net.op("Add", [x, y]) if stride == 1 and channels == width else y
            channels = width
    net.save(net.classify(net.conv(x, 320, 1280, 1, act="relu6"), 1280), path)
    return path


def resnet18() -> Path:
    """ResNet-18 (He et al. 2015, table 1), batch normalization folded."""
    path = cache_folder() / "resnet18.onnx"
    if path.is_file():
        return path
    net = _Writer()
    x = net.conv("x", 3, 64, 7, 2, act="relu")
    x, channels = net.op("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), 64
    for width, first_stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for index in range(2):
            stride = first_stride if index == 0 else 1
            y = net.conv(x, channels, width, 3, stride, act="relu")
            y = net.conv(y, width, width, 3)
            if stride != 1 or channels != width:
                x = net.conv(x, channels, width, 1, stride)
            x, channels = net.op("Relu", [net.op("Add", [x, y])]), width
    net.save(net.classify(x, 512), path)
    return path


def minilm() -> Path:
    """The MiniLM encoder with float weights: the file's int8 weights, `Cast` and `Mul` folded into constants."""
    source, path = SHARED / "minilm_l6_int8.onnx", cache_folder() / "minilm_float.onnx"
    if path.is_file() or not source.is_file():
        return path
    model = onnx.load(str(source))
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        if node.op_type not in ("Cast", "Mul") or not all(name in constants for name in node.input):
            kept.append(node)
            continue
        arrays = [numpy_helper.to_array(constants[name]) for name in node.input]
        if node.op_type == "Cast":
            array = arrays[0].astype(helper.tensor_dtype_to_np_dtype(node.attribute[0].i))
        else:
            array = arrays[0] * arrays[1]
        constants[node.output[0]] = numpy_helper.from_array(array, node.output[0])
    used = {name for node in kept for name in node.input}
    del graph.node[:]
    del graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(tensor for name, tensor in constants.items() if name in used)
    _save(model, path)
    return path


def _shared(file: str) -> Callable[[], Path]:
    return lambda: SHARED / file


STANDARD: dict[str, _Standard] = {
    "mobilenetv2": _Standard(mobilenet_v2, {}),
    "resnet18": _Standard(resnet18, {}),
    "efficientnet_lite0": _Standard(_shared("efficientnet_lite0.onnx"), {}),
    "open_nsfw": _Standard(_shared("open_nsfw_resnet50thin.onnx"), {}),
    "ppocr_cls": _Standard(_shared("ppocr_cls.onnx"), {"x": (1, 3, 48, 192)}),
    "ppocrv4_det_320": _Standard(_shared("ppocrv4_det.onnx"), {"x": (1, 3, 320, 320)}),
    "ppocrv4_det_640": _Standard(_shared("ppocrv4_det.onnx"), {"x": (1, 3, 640, 640)}),
    "minilm": _Standard(
        minilm,
        {name: (1, 64) for name in ("input_ids", "attention_mask", "token_type_ids")},
        {"input_ids": (1000, 20000), "attention_mask": (1, 2), "token_type_ids": (0, 1)},
    ),
    "silero": _Standard(_shared("silero_vad_16k_static.onnx"), {}),
}
"""Short name → model, in the order of the suite."""
