"""Bytes as an ELF object file with one symbol, so that large constants need not pass through a compiler as text.

Layout and constants: System V Application Binary Interface, chapter 4 (object files).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_MAGIC = b"\x7fELF"
_PROGBITS, _SYMTAB, _STRTAB = 1, 2, 3
_ALLOC = 2
_GLOBAL_OBJECT = 0x11
_DATA, _SYMBOLS, _NAMES, _SECTION_NAMES, _STACK = 1, 2, 3, 4, 5


@dataclass(frozen=True)
class Machine:
    """What an ELF header says of its machine: 64 bits or 32, byte order (`<` or `>`), architecture, its flags."""

    wide: bool
    order: str
    architecture: int
    flags: int

    @staticmethod
    def of(header: bytes) -> Machine | None:
        """The machine of an object file, from its first 64 bytes; None if it is not ELF."""
        if header[:4] != _MAGIC or len(header) < 64:
            return None
        wide, order = header[4] == 2, "<" if header[5] == 1 else ">"
        (architecture,) = struct.unpack_from(f"{order}H", header, 18)
        (flags,) = struct.unpack_from(f"{order}I", header, 48 if wide else 36)
        return Machine(wide, order, architecture, flags)


def data_object(data: bytes, symbol: str, machine: Machine, alignment: int) -> bytes:
    """A relocatable object whose read-only section holds `data` under a global symbol.

    Args:
        data: the bytes.
        symbol: its name.
        machine: of the objects that it is linked with.
        alignment: of the first byte, a power of two.
    """
    names = b"\0" + symbol.encode() + b"\0"
    titles = b"\0.rodata\0.symtab\0.strtab\0.shstrtab\0.note.GNU-stack\0"
    symbols = _symbol(machine, 0, 0, 0, 0) + _symbol(machine, 1, _GLOBAL_OBJECT, _DATA, len(data))
    header_size = 64 if machine.wide else 52
    body, offsets = bytearray(), []
    for part, align in ((data, alignment), (symbols, 8), (names, 1), (titles, 1)):
        body += bytes(-(header_size + len(body)) % align)
        offsets.append(header_size + len(body))
        body += part
    body += bytes(-(header_size + len(body)) % 8)
    start = header_size + len(body)
    entry = 24 if machine.wide else 16
    sections = [
        (0, 0, 0, 0, 0, 0, 0, 0, 0),
        (titles.index(b".rodata"), _PROGBITS, _ALLOC, offsets[0], len(data), 0, 0, alignment, 0),
        (titles.index(b".symtab"), _SYMTAB, 0, offsets[1], len(symbols), _NAMES, 1, 8, entry),
        (titles.index(b".strtab"), _STRTAB, 0, offsets[2], len(names), 0, 0, 1, 0),
        (titles.index(b".shstrtab"), _STRTAB, 0, offsets[3], len(titles), 0, 0, 1, 0),
        (titles.index(b".note.GNU-stack"), _PROGBITS, 0, offsets[3], 0, 0, 0, 1, 0),
    ]
    return _file_header(machine, start, len(sections)) + bytes(body) + b"".join(_section(machine, *s) for s in sections)


def _file_header(machine: Machine, sections_at: int, count: int) -> bytes:
    identity = _MAGIC + bytes([2 if machine.wide else 1, 1 if machine.order == "<" else 2, 1]) + bytes(9)
    word = "Q" if machine.wide else "I"
    sizes = (64, 0, 0, 64) if machine.wide else (52, 0, 0, 40)
    fields = (1, machine.architecture, 1, 0, 0, sections_at, machine.flags, *sizes, count, _SECTION_NAMES)
    return identity + struct.pack(f"{machine.order}HHI{word}{word}{word}IHHHHHH", *fields)


def _symbol(machine: Machine, name: int, info: int, section: int, size: int) -> bytes:
    if machine.wide:
        return struct.pack(f"{machine.order}IBBHQQ", name, info, 0, section, 0, size)
    return struct.pack(f"{machine.order}IIIBBH", name, 0, size, info, 0, section)


def _section(
    machine: Machine, name: int, kind: int, flags: int, at: int, size: int, link: int, info: int, align: int, entry: int
) -> bytes:
    word = "Q" if machine.wide else "I"
    layout = f"{machine.order}II{word}{word}{word}{word}II{word}{word}"
    return struct.pack(layout, name, kind, flags, 0, at, size, link, info, align, entry)
