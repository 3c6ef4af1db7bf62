"""Objects written byte by byte, as `readelf` reads them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgeir.emit.c.elf import Machine, data_object

MACHINES = {
    "Advanced Micro Devices X86-64": Machine(True, "<", 62, 0),
    "AArch64": Machine(True, "<", 183, 0),
    "ARM": Machine(False, "<", 40, 0x5000400),
    "RISC-V": Machine(True, "<", 243, 5),
    "PowerPC64": Machine(True, ">", 21, 2),
}


@pytest.mark.skipif(shutil.which("readelf") is None, reason="needs binutils")
@pytest.mark.parametrize("name", MACHINES)
def test_readelf_agrees(name: str, tmp_path: Path) -> None:
    machine, data = MACHINES[name], bytes(range(200))
    path = tmp_path / "data.o"
    path.write_bytes(data_object(data, "model_weights", machine, 64))
    assert Machine.of(path.read_bytes()[:64]) == machine
    result = subprocess.run(
        ["readelf", "-W", "-h", "-S", "-s", "-x", ".rodata", str(path)], capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    assert f"Machine:                           {name}" in result.stdout
    (symbol,) = (line.split() for line in result.stdout.splitlines() if line.endswith("model_weights"))
    assert symbol[2:5] == ["200", "OBJECT", "GLOBAL"]
    (section,) = (line.split() for line in result.stdout.splitlines() if "] .rodata" in line)
    assert int(section[-1]) == 64 and int(section[6], 16) == 200
    assert "00010203 04050607" in result.stdout


def test_other_files_are_no_machines() -> None:
    assert Machine.of(b"\0asm" + bytes(60)) is None
    assert Machine.of(b"\x7fELF") is None
