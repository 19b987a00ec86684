"""ELF files of a few hundred bytes that tell GDB what it cannot be told otherwise: symbols, and the end of stacks."""

from __future__ import annotations

import struct
from collections.abc import Sequence

_NAMES = b"\0.text\0.debug_frame\0.symtab\0.strtab\0"
_GLOBAL_FUNCTION = 0x12
_KINDS = {".text": 8, ".debug_frame": 1, ".symtab": 2, ".strtab": 3}  # SHT_NOBITS, PROGBITS, SYMTAB, STRTAB


def elf_image(
    machine: int, text: tuple[int, int], symbols: Sequence[tuple[str, int, int]], debug_frame: bytes = b""
) -> bytes:
    """An ELF file with a .text of no contents at (address, size) and functions (name, address, size) in it.

    `machine` is its e_machine.
    """
    strings, table = b"\0", bytes(24)
    for name, addr, size in symbols:
        table += struct.pack("<IBBHQQ", len(strings), _GLOBAL_FUNCTION, 0, 1, addr, size)
        strings += name.encode("utf-8", "backslashreplace") + b"\0"
    parts = (
        (".text", b""),
        (".debug_frame", debug_frame),
        (".symtab", table),
        (".strtab", strings),
        (".strtab", _NAMES),
    )
    contents, headers = b"", bytes(64)
    for name, data in parts:
        contents += bytes(-len(contents) % 8)
        flags, addr, size = (6, *text) if name == ".text" else (0, 0, len(data))
        link, info, entry = (4, 1, 24) if name == ".symtab" else (0, 0, 0)
        name_at, section_type = _NAMES.index(name.encode() + b"\0"), _KINDS[name]
        headers += struct.pack(
            "<IIQQQQIIQQ", name_at, section_type, flags, addr, 64 + len(contents), size, link, info, 8, entry
        )  # fmt: skip
        contents += data
    contents += bytes(-len(contents) % 8)
    header = b"\x7fELF\2\1\1" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 0, 64 + len(contents), 0, 64, 0, 0, 64, 6, 5)
    return header + contents + headers


def no_caller(start: int, size: int, return_column: int, sp: int, before: int = 0) -> bytes:
    """A .debug_frame that says of all code in a range that its return address is undefined: the end of the stack.

    `return_column` and `sp` are DWARF's numbers of the return address and of the stack pointer; `before` are the bytes
    that stand before it in the section.
    """
    undefined = bytes((0x0C, sp, 8, 0x07, return_column))  # DW_CFA_def_cfa sp + 8, DW_CFA_undefined
    cie = _entry(0xFFFFFFFF, bytes((4, 0, 8, 0, 1, 0x78, return_column)) + undefined)
    return cie + _entry(before, struct.pack("<QQ", start, size))


def interrupted_callers(
    frames: Sequence[tuple[int, int, int, int]], saved: Sequence[tuple[int, int]], return_column: int
) -> bytes:
    """A .debug_frame of code that an interruption has called, which GDB takes as it takes handlers of signals.

    Each of `frames` is an address, a size, and the register (its number) and offset that make the CFA there; `saved`
    are the registers and their offsets from that.
    """
    # "S": the caller's pc is where it was interrupted and follows no call, and its stack may lie anywhere.
    start = bytes((4,)) + b"S\0" + bytes((8, 0, 1, 1, return_column))
    cie = _entry(0xFFFFFFFF, start + b"".join(b"\x11" + _uleb(one) + _sleb(at) for one, at in saved))
    cfa = (struct.pack("<QQ", at, size) + bytes((0x0C,)) + _uleb(base) + _uleb(plus) for at, size, base, plus in frames)
    return cie + b"".join(_entry(0, body) for body in cfa)


def _uleb(number: int) -> bytes:
    """Little-endian, seven bits a byte, the highest bit set in all but the last."""
    low, rest = number & 0x7F, number >> 7
    return bytes((low | 0x80,)) + _uleb(rest) if rest else bytes((low,))


def _sleb(number: int) -> bytes:
    """The same with a sign, that of the last byte's second highest bit; for numbers that are not negative."""
    low, rest = number & 0x7F, number >> 7
    return bytes((low | 0x80,)) + _sleb(rest) if rest or low & 0x40 else bytes((low,))


def _entry(cie: int, body: bytes) -> bytes:
    body = struct.pack("<I", cie) + body
    body += bytes(-len(body) - 4 & 7)  # DW_CFA_nop
    return struct.pack("<I", len(body)) + body
