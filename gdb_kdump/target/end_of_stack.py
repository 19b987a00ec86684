"""The end of every kernel stack, told to GDB in the one way that it understands: DWARF that has no return address.

A GDB Python unwinder can say where a caller is, but not that there is none.  So GDB gets a symbol file of a few
hundred bytes with one DWARF entry over the kernel's half of the address space.  Each function's own entry comes
first; where there is none (assembly), and our unwinder stays silent, the stack ends without a word.
"""

from __future__ import annotations

import os
from pathlib import Path

import gdb

from gdb_kdump.debuginfo.symbol_file import elf_image, no_caller
from gdb_kdump.text import is_plain_name

_KERNEL_HALF = (0xFF00000000000000, 0x00FFFFFFFFFFF000)  # start, size: of 4- and 5-level paging alike
_TEXT = 0x0000800000000000  # a place that no kernel and no process has

_path: Path | None = None
# The files in memory that GDB may have symbols of: name and descriptor.
_descriptors: dict[str, int] = {}


def load() -> None:
    """Load the symbol file into GDB, unless it has it."""
    global _path
    if _path is None or str(_path) not in _descriptors:  # GDB may have dropped it, and another file taken its place
        symbols = [("gdb_kdump_end_of_stack", _TEXT, 1)]  # GDB warns of a file without any
        _path = in_memory("end-of-stack", elf_image((_TEXT, 1), symbols, no_caller(*_KERNEL_HALF)))
    if any(objfile.username == str(_path) for objfile in gdb.objfiles()):
        return
    with gdb.with_parameter("confirm", False):
        gdb.execute(f"add-symbol-file {_path}", to_string=True)


def dismiss_modules() -> bool:
    """Have GDB drop the symbol files besides the main one and ours: those of the modules of an earlier dump.

    False where it keeps one.
    """
    progspace = gdb.current_progspace()
    main = progspace.filename if progspace else None
    for objfile in gdb.objfiles():
        if objfile.username not in (str(_path), main) and objfile.owner is None:
            try:
                with gdb.with_parameter("confirm", False):
                    gdb.execute(f'remove-symbol-file "{objfile.username}"', to_string=True)
            except gdb.error:
                return False
    return True


def in_memory(name: str, image: bytes) -> Path:
    """A file that is on no disk, for GDB to read its symbols from.

    It stays open on purpose: GDB comes back to a file as long as it has its symbols.
    """
    known = {objfile.username for objfile in gdb.objfiles()}
    for path in [path for path in _descriptors if path not in known]:
        os.close(_descriptors.pop(path))
    descriptor = os.memfd_create(f"gdb-kdump-{name if is_plain_name(name) else 'module'}", os.MFD_CLOEXEC)
    os.write(descriptor, image)
    path = f"/proc/self/fd/{descriptor}"
    _descriptors[path] = descriptor
    return Path(path)
