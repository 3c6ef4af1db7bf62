"""Inference engines behind one small interface. Each imports its package only when it is prepared."""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.networks import Shapes, output_names


class Contender(Protocol):
    """One way to run a model on this machine's CPU."""

    name: str
    packages: tuple[str, ...]

    def prepare(self, model: Path, shapes: Shapes, threads: int) -> None:
        """Loads and compiles a model for fixed shapes; float32 arithmetic.

        Args:
            model: an ONNX file.
            shapes: input name → sizes, for every input.
            threads: number of threads, the calling one included.

        Raises:
            Exception: the package is missing, or cannot run the model.
        """
        ...

    def run(self, inputs: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        """Input name → array; the outputs in the model's order, as numpy arrays that the next run may overwrite."""
        ...


def versions(contender: Contender) -> dict[str, str]:
    """Package → installed version."""
    found = {}
    for package in contender.packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "missing"
    return found


class EdgeIR:
    """This project: an artifact made by `edgeir.compile` without records of tuning, run by `edgeir.Session`."""

    name = "edgeir"
    packages: tuple[str, ...] = ("edgeir", "apache-tvm")
    tuned = False

    def __init__(self, target: str = "host") -> None:
        self.target = target

    def prepare(self, model: Path, shapes: Shapes, threads: int) -> None:
        import edgeir

        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "model.edgeir"
            edgeir.compile(model, self.target, shapes, threads=threads, output=output, tuned=self.tuned)
            self.session = edgeir.Session(output, threads=threads)
        self.names = [spec.name for spec in self.session.outputs]

    def run(self, inputs: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        results = self.session.run(inputs)
        return [results[name] for name in self.names]


class TunedEdgeIR(EdgeIR):
    """The same with the records in the file that EDGEIR_RECORDS names, or in the user's cache."""

    name = "edgeir-tuned"
    tuned = True


class OnnxRuntime:
    """onnxruntime's CPU provider with its default graph optimizations."""

    name = "onnxruntime"
    packages: tuple[str, ...] = ("onnxruntime",)

    def prepare(self, model: Path, shapes: Shapes, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def run(self, inputs: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        results: Any = self.session.run(None, dict(inputs))
        return results


class OpenVino:
    """OpenVINO's CPU plugin, for latency, in float32 (it would take bfloat16 by itself where the CPU has it)."""

    name = "openvino"
    packages: tuple[str, ...] = ("openvino",)

    def prepare(self, model: Path, shapes: Shapes, threads: int) -> None:
        import openvino  # pyright: ignore[reportMissingImports]

        core = openvino.Core()
        graph = core.read_model(str(model))
        graph.reshape({name: list(shape) for name, shape in shapes.items()})
        config = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        compiled = core.compile_model(graph, "CPU", config)
        self.request = compiled.create_infer_request()
        self.outputs = list(compiled.outputs)

    def run(self, inputs: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        results = self.request.infer(dict(inputs), share_inputs=True, share_outputs=True)
        return [results[port] for port in self.outputs]


class Mnn:
    """MNN's CPU backend. The model goes through the converter in its wheel.

    The converter's compiled module is called directly: the wheel's Python entry installs a logging package from the
    network on import and reports each conversion to its makers.
    """

    name = "mnn"
    packages: tuple[str, ...] = ("mnn",)

    def prepare(self, model: Path, shapes: Shapes, threads: int) -> None:
        import _tools  # pyright: ignore[reportMissingImports]
        import MNN  # pyright: ignore[reportMissingImports]

        mnn: Any = MNN
        with tempfile.TemporaryDirectory() as folder:
            converted = str(Path(folder) / "model.mnn")
            command = ["mnnconvert", "-f", "ONNX", "--modelFile", str(model), "--MNNModel", converted]
            _tools.mnnconvert([*command, "--bizCode", "benchmark"])
            if not os.path.isfile(converted):
                raise RuntimeError("the converter wrote no model")
            self.net = mnn.Interpreter(converted)
        self.session = self.net.createSession({"backend": "CPU", "numThread": threads, "precision": "normal"})
        self.slots = self.net.getSessionInputAll(self.session)
        for name, shape in shapes.items():
            self.net.resizeTensor(self.slots[name], tuple(shape))
        self.net.resizeSession(self.session)
        self.mnn, self.names = mnn, output_names(model)

    def run(self, inputs: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        tensor, plain = self.mnn.Tensor, self.mnn.Tensor_DimensionType_Caffe
        for name, slot in self.slots.items():
            array = inputs[name]
            if array.dtype == np.int64:  # MNN has no 64-bit integers
                array = array.astype(np.int32)
            slot.copyFrom(tensor(array.shape, slot.getDataType(), array, plain))
        if self.net.runSession(self.session) != 0:
            raise RuntimeError("runSession failed")
        results = self.net.getSessionOutputAll(self.session)
        arrays = []
        for name in self.names:
            result = results[name]
            shape = result.getShape()
            host = tensor(shape, result.getDataType(), np.zeros(shape, np.float32), plain)
            result.copyToHostTensor(host)
            # The view dies with its tensor.
            arrays.append(np.array(host.getNumpyData()))
        return arrays


class TvmDefault:
    """Apache TVM as it comes: its own ONNX importer and `tvm.compile`, no tuning."""

    name = "tvm"
    packages: tuple[str, ...] = ("apache-tvm",)

    def prepare(self, model: Path, shapes: Shapes, threads: int) -> None:
        # Read when TVM's thread pool starts; each contender has a process of its own.
        os.environ["TVM_NUM_THREADS"] = str(threads)
        import onnx
        import tvm
        from tvm import relax
        from tvm.relax.frontend.onnx import from_onnx

        from edgeir.targets import host

        # Annotated as a graph, but it takes the whole model.
        proto: Any = onnx.load(str(model))
        module = from_onnx(proto, shape_dict={name: list(shape) for name, shape in shapes.items()})
        target = tvm.target.Target(host().with_cores(threads).tvm_config())
        with target:
            executable: Any = tvm.compile(module, target)
        device: Any = tvm.cpu()
        self.tensor = tvm.runtime.tensor
        self.main = relax.VirtualMachine(executable, device)["main"]
        self.order = list(shapes)

    def run(self, inputs: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        result = self.main(*(self.tensor(inputs[name]) for name in self.order))
        return [result.numpy()] if hasattr(result, "dtype") else [tensor.numpy() for tensor in result]


CONTENDERS: dict[str, Callable[[], Contender]] = {
    TunedEdgeIR.name: TunedEdgeIR,
    OnnxRuntime.name: OnnxRuntime,
    OpenVino.name: OpenVino,
    Mnn.name: Mnn,
    TvmDefault.name: TvmDefault,
}
"""Those that `--against` may name."""


def contender(name: str, target: str = "host") -> Contender:
    """A contender by name; `target` is what EdgeIR compiles for."""
    return EdgeIR(target) if name == EdgeIR.name else CONTENDERS[name]()
