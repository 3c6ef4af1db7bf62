"""What a deployed model takes: code, weights, working memory, peak resident memory, beside other runtimes.

    python -m benchmarks.footprint [--models FOLDER] [--output FILE]

Contenders: `--emit c` (linked statically), the artifact with TVM's C++ runtime, ONNX Runtime from Python (whose own
memory is taken off). Each runs in a process of its own on the same input; published figures stand below as published.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import tvm
import tvm_ffi.libinfo

from edgeir.compiler import compile, prepare
from edgeir.emit import write_c

_ROOT = Path(__file__).resolve().parents[1]
MODELS: Mapping[str, dict[str, tuple[int, ...]]] = {
    "mnist_cnn": {"input": (1, 1, 28, 28)},
    "ppocr_cls": {"x": (1, 3, 48, 192)},
}
PUBLISHED = (
    ("ExecuTorch, runtime", "below 50 KB as a design goal", "docs.pytorch.org/executorch/stable/runtime-overview.html"),
    (
        "LiteRT for Microcontrollers, core runtime",
        "16 KB on an Arm Cortex-M3; 22 KB with the operators of a keyword detector",
        "tensorflow.org/lite/microcontrollers; David et al. 2021, arXiv:2010.08678",
    ),
)
"""Runtime, figure, source: as published, without operators' kernels, not measured here."""


@dataclass(frozen=True)
class Footprint:
    """One contender on one model; sizes in bytes, None where the contender does not tell.

    Attributes:
        model, contender: names.
        runtime_bytes: libraries that must be there besides libc and libm.
        code_bytes: the model's own code.
        weight_bytes: the model's constants.
        memory_bytes: planned memory for intermediate values and workspaces.
        resident_bytes: peak resident memory of the process (ONNX Runtime: less that of Python with numpy).
    """

    model: str
    contender: str
    runtime_bytes: int
    code_bytes: int | None
    weight_bytes: int
    memory_bytes: int | None
    resident_bytes: int


def c_program(name: str, path: Path, folder: Path) -> Footprint:
    """The `--emit c` program, linked statically."""
    write_c(prepare(path, "host", MODELS[name], threads=1), folder / "c")
    data = sorted(p.name for p in (folder / "c").iterdir() if p.stem in ("weights", "golden"))
    _run(["gcc", "-Os", "-c", "model.c"], folder / "c")
    _run(["gcc", "-O2", "-static", "main.c", "model.o", "kernels.o", *data, "-lm", "-o", "example"], folder / "c")
    report = json.loads(_run(["./example"], folder / "c"))
    code = sum(_text_bytes(folder / "c" / file) for file in ("model.o", "kernels.o"))
    sizes = (report["weight_bytes"], report["arena_bytes"], report["peak_resident_bytes"])
    return Footprint(name, "EdgeIR, --emit c", 0, code, *sizes)


def tvm_program(name: str, path: Path, folder: Path) -> Footprint:
    """The artifact in the C++ example."""
    artifact = compile(path, "host", MODELS[name], threads=1, output=folder / "artifact")
    libraries = (Path(tvm.__file__).parent / "lib", Path(tvm_ffi.libinfo.find_libtvm_ffi()).parent)
    source = _ROOT / "examples" / "deploy_cpp" / "deploy.cpp"
    flags = _run([sys.executable, "-m", "tvm_ffi.config", "--cxxflags"], folder).split()
    paths = [f"-L{libraries[0]}", f"-L{libraries[1]}", f"-Wl,-rpath,{libraries[0]}:{libraries[1]}"]
    link = ["-Wl,--no-as-needed", "-ltvm_runtime", "-ltvm_ffi"]
    _run(["g++", "-O2", *flags, str(source), "-o", "deploy", *paths, *link], folder)
    for index, array in enumerate(_inputs(name).values()):
        np.save(folder / f"in{index}.npy", array)
    files = [f"in{index}.npy" for index in range(len(MODELS[name]))]
    said = re.search(r"peak resident (\d+) KiB", _run(["./deploy", "artifact", "out", *files], folder))
    assert said is not None
    manifest = artifact.manifest
    runtime = sum((libraries[i] / file).stat().st_size for i, file in enumerate(("libtvm_runtime.so", "libtvm_ffi.so")))
    own = (manifest.code_bytes, manifest.constant_bytes, manifest.peak_memory_bytes)
    return Footprint(name, "EdgeIR, TVM's C++ runtime", runtime, *own, 1024 * int(said[1]))


_PEAK = "print([int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
_SESSION = f"""
import sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, ["CPUExecutionProvider"])
session.run(None, dict(numpy.load(sys.argv[2])))
{_PEAK}
"""


def onnxruntime_program(name: str, path: Path, folder: Path) -> Footprint:
    """ONNX Runtime on the original model."""
    np.savez(folder / "inputs.npz", allow_pickle=False, **_inputs(name))  # pyright: ignore[reportArgumentType]
    bare = int(_run([sys.executable, "-c", f"import numpy\n{_PEAK}"], folder))
    peak = int(_run([sys.executable, "-c", _SESSION, str(path), "inputs.npz"], folder))
    package = Path(onnxruntime.__file__).parent / "capi"
    library = sum(file.stat().st_size for file in package.glob("*pybind11_state*.so"))
    size = path.stat().st_size
    return Footprint(name, f"onnxruntime {onnxruntime.__version__}", library, None, size, None, 1024 * (peak - bare))


def _inputs(name: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {key: rng.random(shape, dtype=np.float32) for key, shape in MODELS[name].items()}


def _text_bytes(path: Path) -> int:
    """Code and read-only data of an object file, by `size`."""
    return int(_run(["size", str(path)], path.parent).splitlines()[1].split()[0])


def _run(command: list[str], folder: Path) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=300).stdout


def table(rows: list[Footprint]) -> str:
    """The figures as Markdown."""
    lines = ["| model | contender | runtime | code | weights | planned memory | peak resident |", "|---" * 7 + "|"]
    for row in rows:
        sizes = (row.runtime_bytes, row.code_bytes, row.weight_bytes, row.memory_bytes, row.resident_bytes)
        shown = " | ".join("–" if size is None else f"{size / 1024:,.1f} KiB" for size in sizes)
        lines.append(f"| {row.model} | {row.contender} | {shown} |")
    return "\n".join([*lines, "", *(f"Published: {name}: {figure} ({source})" for name, figure, source in PUBLISHED)])


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", type=Path, default=_ROOT.parent / "shared" / "models")
    parser.add_argument("--output", type=Path, default=_ROOT / "benchmarks" / "results" / "footprint.json")
    options = parser.parse_args()
    missing = [tool for tool in ("gcc", "g++", "size") if shutil.which(tool) is None]
    if missing:
        raise SystemExit(f"needs {', '.join(missing)}")
    rows = []
    for name in MODELS:
        for program in (c_program, tvm_program, onnxruntime_program):
            with tempfile.TemporaryDirectory() as folder:
                rows.append(program(name, options.models / f"{name}.onnx", Path(folder)))
    print(table(rows))
    published = [dict(zip(("runtime", "figure", "source"), item, strict=True)) for item in PUBLISHED]
    report = {"machine": os.uname().machine, "measured": [asdict(row) for row in rows], "published": published}
    options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
