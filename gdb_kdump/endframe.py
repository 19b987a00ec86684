"""The end of every kernel stack, told to GDB in the one way that it understands: DWARF that has no return address.

A GDB Python unwinder can say where a caller is, but not that there is none.  So GDB gets a symbol file of a few
hundred bytes with one DWARF entry over the kernel's half of the address space.  Each function's own entry comes
first; where there is none (assembly), and our unwinder stays silent, the stack ends without a word.
"""

from __future__ import annotations

import os
from pathlib import Path

import gdb

from gdb_kdump.symbolfile import elf_image, no_caller
from gdb_kdump.text import is_plain_name

_KERNEL_HALF = (0xFF00000000000000, 0x00FFFFFFFFFFF000)  # start, size: of 4- and 5-level paging alike
_TEXT = 0x0000800000000000  # a place that no kernel and no process has

_path: Path | None = None


def load() -> None:
    """Load the symbol file into GDB, unless it has it."""
    global _path
    if _path is None:
        symbols = [("gdb_kdump_end_of_stack", _TEXT, 1)]  # GDB warns of a file without any
        _path = in_memory("end-of-stack", elf_image((_TEXT, 1), symbols, no_caller(*_KERNEL_HALF)))
    if any(objfile.username == str(_path) for objfile in gdb.objfiles()):
        return
    with gdb.with_parameter("confirm", False):
        gdb.execute(f"add-symbol-file {_path}", to_string=True)


def has_company() -> bool:
    """Whether GDB has symbol files besides the main one and ours: those of the modules of an earlier dump."""
    return len([objfile for objfile in gdb.objfiles() if objfile.username != str(_path)]) > 1


def in_memory(name: str, image: bytes) -> Path:
    """A file that is on no disk, for GDB to read its symbols from.

    It stays open on purpose: GDB comes back to a file as long as it has its symbols.
    """
    descriptor = os.memfd_create(f"gdb-kdump-{name if is_plain_name(name) else 'module'}", os.MFD_CLOEXEC)
    os.write(descriptor, image)
    return Path(f"/proc/self/fd/{descriptor}")
