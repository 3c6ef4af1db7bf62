"""The runtime alone: which modules it loads in a fresh process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_SCRIPT = """
import sys
import edgeir.runtime
before = set(sys.modules)
assert "tvm_ffi" not in before
import numpy
session = edgeir.runtime.Session(sys.argv[1])
session.run({"x": numpy.zeros((4, 8), numpy.float32)})
loaded = {name.split(".")[0] for name in sys.modules}
for name in ("tvm", "onnx", "onnxruntime", "networkx", "xgboost", "rich", "typer", "scipy"):
    assert name not in loaded, name
ours = sorted(name for name in sys.modules if name.startswith("edgeir."))
assert all(name.split(".")[1] in ("runtime", "targets", "errors") for name in ours), ours
maps = open("/proc/self/maps").read() if sys.platform == "linux" else ""
assert "libtvm_compiler" not in maps
print("light")
"""


def test_no_compiler_and_no_importer_is_loaded(linear: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(linear)], capture_output=True, text=True, timeout=60, check=False
    )
    assert process.stdout.strip() == "light", process.stderr


def test_runtime_and_compiler_live_in_one_process(linear: Path) -> None:
    script = (
        "import sys, numpy\n"
        "from edgeir.runtime import Session\n"
        "x = {'x': numpy.ones((4, 8), numpy.float32)}\n"
        "first = Session(sys.argv[1]).run(x)['y']\n"
        "import tvm\n"
        "second = Session(sys.argv[1]).run(x)['y']\n"
        "assert numpy.array_equal(first, second)\n"
        "tvm.target.Target({'kind': 'llvm'})\n"
        "print('both')\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, str(linear)], capture_output=True, text=True, timeout=60, check=False
    )
    assert process.stdout.strip() == "both", process.stderr
