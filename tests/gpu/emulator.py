"""Runs kernels scheduled for CUDA on a CPU: their CUDA source, compiled with g++ over `cuda_on_cpu.h`.

TVM splits each function into kernels and the host code that launches them. The host code, which allocates buffers and
launches, is interpreted here; the kernels are the very text that a GPU would get.
"""

from __future__ import annotations

import ctypes
import math
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.ir.instrument import pass_instrument

from edgeir.lowering.cuda_binary import device_modules
from edgeir.targets import Target

_HEADER = Path(__file__).with_name("cuda_on_cpu.h")
_AXES = ("x", "y", "z")


@pass_instrument
class _HostCode:
    """Keeps the module as it is when host and device code have just been separated."""

    module: Any = None

    def run_after_pass(self, module: Any, info: Any) -> None:
        if str(info.name).endswith("SplitHostDevice"):
            self.module = module


class EmulatedGpu:
    """Compiled kernels.

    Args:
        functions: name → scheduled PrimFunc.
        target: a CUDA target.
        folder: where to compile.
    """

    def __init__(self, functions: Mapping[str, Any], target: Target, folder: Path) -> None:
        code = _HostCode()
        tvm_target = tvm.target.Target(target.tvm_config())
        with tvm.transform.PassContext(instruments=[code]), tvm_target:
            built = tvm.tirx.build(tvm.IRModule(dict(functions)), target=tvm_target, pipeline="s_tir")
        self.source = "\n".join(module.inspect_source() for module in device_modules(built))
        self._host = {name: code.module[name] for name in functions}
        self.launches: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
        self._library = compiled(self.source, folder)

    def __call__(self, name: str, *arrays: np.ndarray) -> None:
        """Runs a function on contiguous arrays, in the order of its parameters; outputs are written in place."""
        function = self._host[name]
        buffers = list(zip(function.params, arrays, strict=True))
        self._run(function.body, [(variable, array.ctypes.data, array) for variable, array in buffers])

    def _run(self, statement: Any, memory: list[tuple[Any, int, Any]]) -> None:
        kind = type(statement).__name__
        if kind == "SeqStmt":
            for part in statement.seq:
                self._run(part, memory)
        elif kind == "AllocBuffer":
            size = math.prod(int(n) for n in statement.buffer.shape)
            # Filled with a pattern that is no plausible number, so that reading before writing shows.
            array = np.full(max(1, size) * 8, 0xA5, np.uint8)
            memory.append((statement.buffer, array.ctypes.data, array))
        elif kind == "DeclBuffer":
            memory.append((statement.buffer, _address(statement.data, memory), None))
        elif kind == "Evaluate":
            self._launch(statement.value, memory)
        else:
            raise NotImplementedError(kind)

    def _launch(self, call: Any, memory: list[tuple[Any, int, Any]]) -> None:
        if isinstance(call, tirx.IntImm):
            return  # a statement that does nothing
        assert str(call.op.name) == "tirx.call_ffi_kernel", call
        name, *arguments = call.args
        tags = [str(tag) for tag in re.findall(r"(blockIdx\.\w|threadIdx\.\w)", str(call))]
        sizes = [int(size) for size in arguments[len(arguments) - len(tags) :]]
        extent = dict(zip(tags, sizes, strict=True))
        pointers = [_address(argument, memory) for argument in arguments[: len(arguments) - len(tags)]]
        grid = tuple(extent.get(f"blockIdx.{axis}", 1) for axis in _AXES)
        block = tuple(extent.get(f"threadIdx.{axis}", 1) for axis in _AXES)
        symbol = str(name.value)
        self.launches.append((symbol, grid, block))
        run = getattr(self._library, f"run_{symbol}")
        shape = ctypes.c_uint * 3
        fault = run((ctypes.c_void_p * max(1, len(pointers)))(*pointers), shape(*grid), shape(*block))
        assert fault != 1, f"the threads of {symbol} meet at different barriers"
        assert fault != 2, f"{symbol} loads or stores a matrix at an address that is not aligned"


def _address(expression: Any, memory: list[tuple[Any, int, Any]]) -> int:
    buffer = expression.args[0]
    return next(address for variable, address, _ in reversed(memory) if variable.same_as(buffer))


def compiled(source: str, folder: Path) -> Any:
    """The kernels as a library with `run_<kernel>(arguments, grid, block)` for each."""
    kernels = source[source.find('extern "C" __global__') :] if 'extern "C" __global__' in source else ""
    kernels = kernels.replace("__shared__ alignas(64)", "alignas(64) __shared__")
    text = [f'#include "{_HEADER}"', "#define uint unsigned int", "#define uchar unsigned char"]
    text += ["#define ushort unsigned short", "", kernels]
    for name, parameters in re.findall(r"(\w+)\(([^()]*)\) \{\n", kernels):
        types = [re.sub(r"\s*__restrict__\s*", " ", parameter).rsplit(" ", 1)[0] for parameter in parameters.split(",")]
        types = [t.strip() for t in types if t.strip()]
        assert all(t.endswith("*") for t in types), parameters
        passed = ", ".join(f"({t})a[{i}]" for i, t in enumerate(types))
        text.append(f"static void call_{name}(void** a) {{ {name}({passed}); }}")
        text.append(
            f'extern "C" int run_{name}(void** a, unsigned* g, unsigned* b) {{ return launch(call_{name}, a, g, b); }}'
        )
    file, library = folder / "kernels.cc", folder / "kernels.so"
    file.write_text("\n".join(text), encoding="utf-8")
    command = ["g++", "-std=c++17", "-O1", "-w", "-fno-strict-aliasing", "-ffp-contract=off", "-shared", "-fPIC"]
    done = subprocess.run([*command, str(file), "-o", str(library)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]
    return ctypes.CDLL(str(library))
