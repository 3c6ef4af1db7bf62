"""Innermost loops of a library's code, and how many cycles `llvm-mca` predicts for them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeir.targets import Target

_FUNCTION = re.compile(r"^[0-9a-f]+ <([^>]+)>:$")
_INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S.*)$")
_TARGET = re.compile(r"(?:0x)?([0-9a-f]+) <")
_BRANCH = re.compile(r"^(j\w+|b(\.\w+)?|bn?e|b(ne|eq|lt|gt|le|ge|lo|hs|hi|ls|mi|pl)|cbn?z|tbn?z)\s")
_MULTIPLY_ADD = re.compile(r"^(vf?n?m(add|sub)\w*ps|vpdp\w*|fml[as]|sdot|udot|vml[as]|vfm[as])\b")
_CYCLES = re.compile(r"Total Cycles:\s+(\d+)")
_THROUGHPUT = re.compile(r"Block RThroughput:\s+([\d.]+)")
_ITERATIONS = 100
MOST_INSTRUCTIONS = 600


@dataclass(frozen=True)
class Loop:
    """An innermost loop: the function it is in, its instructions in order, without addresses."""

    function: str
    instructions: tuple[str, ...]

    @property
    def multiply_adds(self) -> int:
        """Number of vector multiply-add instructions."""
        return sum(bool(_MULTIPLY_ADD.match(text)) for text in self.instructions)


@dataclass(frozen=True)
class Prediction:
    """Cycles of one iteration: with dependences (simulated), and the bound by execution ports alone."""

    loop: Loop
    cycles: float
    port_bound: float

    def __str__(self) -> str:
        return (
            f"{self.loop.function}: {len(self.loop.instructions)} instructions, {self.loop.multiply_adds} of them "
            f"multiply-adds, {self.cycles:.1f} cycles per iteration (ports alone: {self.port_bound:.1f})"
        )


def innermost_loops(disassembly: str) -> Iterator[Loop]:
    """Loops without a loop inside, from the text that `llvm-objdump -d` prints."""
    function, body = "", list[tuple[int, str]]()
    for line in [*disassembly.splitlines(), "0 <end>:"]:
        start = _FUNCTION.match(line)
        if start:
            yield from _loops(function, body)
            function, body = start[1], []
        elif instruction := _INSTRUCTION.match(line):
            body.append((int(instruction[1], 16), re.sub(r"\s+", " ", instruction[2].strip())))


def _loops(function: str, body: list[tuple[int, str]]) -> Iterator[Loop]:
    index = {address: position for position, (address, _) in enumerate(body)}
    edges: list[tuple[int, int]] = []
    for position, (_, text) in enumerate(body):
        target = _TARGET.search(text)
        if _BRANCH.match(text) and target:
            goal = index.get(int(target[1], 16))
            if goal is not None and goal <= position:
                edges.append((goal, position))
    for first, last in edges:
        if not any(first <= a and b <= last and (a, b) != (first, last) for a, b in edges):
            yield Loop(function.removesuffix("_compute_"), tuple(text for _, text in body[first : last + 1]))


def predict(loop: Loop, target: Target) -> Prediction | None:
    """What `llvm-mca` says about one loop; None where it does not know an instruction or the processor."""
    lines = [re.sub(r"\s*(#|//|<).*$", "", text) for text in loop.instructions]
    # The branch back is left out: its target has no meaning outside, and it is predicted right.
    text = "\n".join(line for line in lines if not _BRANCH.match(line + " ")) + "\n"
    command = ["llvm-mca", f"-mtriple={target.triple}", f"-iterations={_ITERATIONS}", "-instruction-info=0"]
    command += ["-resource-pressure=0", *([f"-mcpu={target.cpu}"] if target.cpu else [])]
    if target.features:
        command.append(f"-mattr={','.join(target.features)}")
    try:
        result = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    cycles, bound = _CYCLES.search(result.stdout), _THROUGHPUT.search(result.stdout)
    if result.returncode or cycles is None or bound is None:
        return None
    return Prediction(loop, int(cycles[1]) / _ITERATIONS, float(bound[1]))


def hot_loops(library: Path, target: Target, most: int = 8) -> list[str]:
    """The innermost loops with the most multiply-adds, one per kernel, with predicted cycles, as lines of text.

    Args:
        library: a shared library or an object file.
        target: what it was compiled for; ARM and x86 are analysed.
        most: number of loops.
    """
    if target.architecture not in ("x86_64", "aarch64", "arm"):
        return [f"predicted cycles are for ARM and x86 only, not {target.architecture}"]
    missing = [tool for tool in ("llvm-mca", "llvm-objdump") if shutil.which(tool) is None]
    if missing:
        return [f"predicted cycles need {' and '.join(missing)} (Debian's package llvm)"]
    command = ["llvm-objdump", "-d", "--no-show-raw-insn", *([f"--mcpu={target.cpu}"] if target.cpu else [])]
    listing = subprocess.run([*command, str(library)], capture_output=True, text=True, timeout=120, check=False)
    best: dict[str, Loop] = {}
    for loop in innermost_loops(listing.stdout):
        known = best.get(loop.function)
        better = known is None or loop.multiply_adds > known.multiply_adds
        if better and loop.multiply_adds and len(loop.instructions) <= MOST_INSTRUCTIONS:
            best[loop.function] = loop
    ranked = sorted(best.values(), key=lambda loop: (-loop.multiply_adds, loop.function))
    predictions = [prediction for loop in ranked[:most] if (prediction := predict(loop, target)) is not None]
    return [str(p) for p in predictions] or [f"llvm-mca knows no loop of this code on {target.cpu or target.triple}"]
