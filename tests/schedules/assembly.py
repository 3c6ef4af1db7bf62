"""The machine code of a convolution's kernel, cut into basic blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import tvm

from edgeir.schedules.template import Template
from edgeir.targets.target import Target
from tests.schedules.conv_task import ConvCase, conv_task

_LABEL = re.compile(r"^\.L(?!tmp)\w+:")  # not those of debug information, which stand within blocks
_FMA = re.compile(r"^\s*(vfn?madd\d+ps|fmla)\s")
_STACK = re.compile(r"\(%rsp[,)]|\[sp[\],]")
_REGISTER = re.compile(r"%([xyz]mm\d+)|\b([qv]\d+)\b")


@dataclass(frozen=True)
class Block:
    """One basic block: the instructions between two labels."""

    instructions: tuple[str, ...]

    @property
    def fmas(self) -> list[str]:
        """Fused multiply-adds of several floats."""
        return [line for line in self.instructions if _FMA.match(line)]

    @property
    def accumulators(self) -> set[str]:
        """Registers that multiply-adds add to: the last operand in AT&T syntax, the first in ARM's."""
        operands = [_registers(line) for line in self.fmas]
        return {names[0 if line.split()[0] == "fmla" else -1] for names, line in zip(operands, self.fmas, strict=True)}

    @property
    def spills(self) -> list[str]:
        """Vector loads and stores relative to the stack pointer."""
        return [line for line in self.instructions if _STACK.search(line) and _registers(line)]

    @property
    def spilled_accumulators(self) -> list[str]:
        """Stores of an accumulator to the stack."""
        stores = [line for line in self.spills if re.match(r"\s*(vmov\w+\s+%|st[rp]\s)", line)]
        return [line for line in stores if self.accumulators & set(_registers(line))]


def _registers(line: str) -> list[str]:
    """SIMD registers that an instruction names, in order; `q3` and `v3` are one register."""
    return [(x86 or "v" + arm[1:]) for x86, arm in _REGISTER.findall(line)]


def assembly(case: ConvCase, template: Template, target: Target) -> str:
    """The assembly text of the kernel with the template's default configuration."""
    task = conv_task(case)
    kernel = template.apply(task, template.default(task, target), target)
    executable: Any = tvm.compile(kernel.func, target=tvm.target.Target(target.tvm_config()))
    return executable.mod.inspect_source("s")


def loop_blocks(text: str) -> list[Block]:
    """The innermost loops: blocks whose last instructions jump to their own label."""
    found: list[Block] = []
    label, lines = "", []
    for line in text.splitlines():
        matched = _LABEL.match(line)
        if matched:
            label, lines = matched.group(0)[:-1], []
            continue
        if not line.startswith("\t") or line.startswith("\t."):
            continue
        lines.append(line)
        if label and re.search(rf"^\s*(j\w+|b\.\w+|cbn?z|tbn?z)\s.*{re.escape(label)}$", line):
            found.append(Block(tuple(lines)))
    return found


def hot_block(text: str) -> Block:
    """The innermost loop with the most multiply-adds."""
    return max(loop_blocks(text), key=lambda block: len(block.fmas))
