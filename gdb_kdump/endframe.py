"""The end of every kernel stack, told to GDB in the one way that it understands: DWARF that has no return address.

A GDB Python unwinder can say where a caller is, but not that there is none.  So GDB gets a symbol file of a few
hundred bytes with one DWARF entry over the kernel's half of the address space.  Each function's own entry comes
first; where there is none (assembly), and our unwinder stays silent, the stack ends without a word.
"""

from __future__ import annotations

import os
import struct

import gdb

_KERNEL_HALF = (0xFF00000000000000, 0x00FFFFFFFFFFF000)  # start, size: of 4- and 5-level paging alike
_TEXT = 0x0000800000000000  # a place that no kernel and no process has
_NAME = b"gdb_kdump_end_of_stack"

_descriptor: int | None = None  # GDB may come back to the file as long as it runs


def load() -> None:
    """Load the symbol file into GDB, unless it has it."""
    global _descriptor
    if _descriptor is None:
        _descriptor = os.memfd_create("gdb-kdump-end-of-stack", os.MFD_CLOEXEC)
        os.write(_descriptor, elf_image())
    path = f"/proc/self/fd/{_descriptor}"
    if any(objfile.username == path for objfile in gdb.objfiles()):
        return
    with gdb.with_parameter("confirm", False):
        gdb.execute(f"add-symbol-file {path}", to_string=True)


def elf_image() -> bytes:
    """The ELF file: one byte of text, one symbol for it, and the DWARF entry."""
    frames = _entry(0xFFFFFFFF, b"\4\0\x08\0\1\x78\x10" + b"\x0c\7\x08" + b"\7\x10")  # CFA rsp+8, rip undefined
    frames += _entry(0, struct.pack("<QQ", *_KERNEL_HALF))
    names = b"\0.text\0.debug_frame\0.symtab\0.strtab\0"
    symbols = bytes(24) + struct.pack("<IBBHQQ", 1, 0x12, 0, 1, _TEXT, 1)  # a global function in section 1
    strings = b"\0" + _NAME + b"\0"
    contents, places = b"", []
    for part in (b"\x90", frames, symbols, strings, names):
        contents += bytes(-len(contents) % 8)
        places.append((64 + len(contents), len(part)))
        contents += part
    contents += bytes(-len(contents) % 8)
    header = b"\x7fELF\2\1\1" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 0, 64 + len(contents), 0, 64, 0, 0, 64, 6, 5)
    sections = bytes(64)
    # name, type, flags, link, info, entry size: .text, .debug_frame, .symtab, .strtab, the names of these
    kinds = ((".text", 1, 6, 0, 0, 0), (".debug_frame", 1, 0, 0, 0, 0), (".symtab", 2, 0, 4, 1, 24),
             (".strtab", 3, 0, 0, 0, 0), (".strtab", 3, 0, 0, 0, 0))  # fmt: skip
    for (name, kind, flags, link, info, size), (offset, length) in zip(kinds, places):
        at, addr = names.index(name.encode()), _TEXT if name == ".text" else 0
        sections += struct.pack("<IIQQQQIIQQ", at, kind, flags, addr, offset, length, link, info, 8, size)
    return header + contents + sections


def _entry(cie: int, body: bytes) -> bytes:
    body = struct.pack("<I", cie) + body
    body += bytes(-len(body) - 4 & 7)  # DW_CFA_nop
    return struct.pack("<I", len(body)) + body
