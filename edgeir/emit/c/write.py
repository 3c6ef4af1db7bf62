"""The folder that `--emit c` writes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeir.compiler import Compilation
from edgeir.emit.c.elf import Machine, data_object
from edgeir.emit.c.example import example, golden_bytes
from edgeir.emit.c.memory import plan_memory
from edgeir.emit.c.source import header, parameters, source
from edgeir.emit.folder import replaced_folder
from edgeir.errors import EdgeIRError
from edgeir.lowering.bare import bare_program, write_kernels
from edgeir.lowering.in_place import ALIGNMENT
from edgeir.lowering.module import Scheduler

LARGEST_TEXT = 1 << 18
"""Bytes that are still written as a C array."""

TOLERANCE = 1e-3
"""Largest error of the example relative to an output's range."""

_FILES = frozenset(("model.h", "model.c", "main.c", "kernels.o", "weights.c", "weights.o", "golden.c", "golden.o"))


def write_c(compilation: Compilation, output: Path) -> Path:
    """Writes the folder; one from an earlier call is replaced.

    Kernels run on one core: those of a compilation for several are scheduled anew.

    Raises:
        EdgeIRError: the path is taken by something else, the target is a GPU, or constants are too large for C text
            on a target whose objects are not ELF.
    """
    output = Path(os.path.abspath(output))
    with replaced_folder(output, "a folder of --emit c", _is_ours) as workplace:
        fresh = workplace / "new"
        fresh.mkdir()
        _write(compilation, fresh)
    return output


def _write(compilation: Compilation, folder: Path) -> None:
    program = bare_program(compilation.optimized, compilation.lowered.target, _scheduler(compilation))
    kernels = folder / "kernels.o"
    workspace = dict(write_kernels(program, kernels))
    memory = plan_memory(program, workspace)
    inputs, outputs = parameters(program)
    weights, offsets = _joined(program.constants)
    machine = Machine.of(kernels.read_bytes()[:64])
    files = ["kernels.o", _blob(folder, "weights", weights, machine)]
    graph = program.graph
    golden, starts = golden_bytes(
        inputs,
        outputs,
        {**compilation.golden_inputs, **{f"\0{name}": a for name, a in compilation.golden_outputs.items()}},
        [*(value.name for value in graph.inputs), *(f"\0{name}" for name in graph.output_names)],
    )
    files.append(_blob(folder, "golden", golden, machine))
    (folder / "model.h").write_text(header(program, memory, inputs, outputs, len(weights)), encoding="utf-8")
    text = source(program, memory, inputs, outputs, offsets, workspace)
    (folder / "model.c").write_text(text, encoding="utf-8")
    (folder / "main.c").write_text(example(inputs, outputs, starts, " ".join(files), TOLERANCE), encoding="utf-8")


def _scheduler(compilation: Compilation) -> Scheduler | None:
    """The compilation's own choice, where it was made for one core; None for the templates' default."""
    if compilation.lowered.target.cores != 1:
        return None
    chosen = {scheduled.task.key: scheduled for scheduled in compilation.lowered.kernels}
    return lambda task: chosen[task.key]


def _joined(arrays: Sequence[np.ndarray]) -> tuple[bytes, list[int]]:
    data, offsets = bytearray(), []
    for array in arrays:
        data += bytes(-len(data) % ALIGNMENT)
        offsets.append(len(data))
        data += array.tobytes()
    return bytes(data), offsets


def _blob(folder: Path, stem: str, data: bytes, machine: Machine | None) -> str:
    """Writes `STEM.c` or `STEM.o`, with the symbol `model_STEM`; returns the file's name."""
    if len(data) > LARGEST_TEXT:
        if machine is None:
            raise EdgeIRError(
                "the model's constants are too large for C text", got=f"{len(data)} bytes",
                expected=f"at most {LARGEST_TEXT} bytes on a target whose objects are not ELF",
            )  # fmt: skip
        (folder / f"{stem}.o").write_bytes(data_object(data, f"model_{stem}", machine, ALIGNMENT))
        return f"{stem}.o"
    rows = (", ".join(map(str, data[at : at + 32])) for at in range(0, len(data), 32))
    text = ",\n".join(rows) or "0"
    declared = f"_Alignas({ALIGNMENT}) const unsigned char model_{stem}[{max(1, len(data))}]"
    (folder / f"{stem}.c").write_text(f"{declared} = {{\n{text}}};\n", encoding="utf-8")
    return f"{stem}.c"


def _is_ours(names: set[str]) -> bool:
    return {"model.c", "kernels.o"} <= names <= _FILES
