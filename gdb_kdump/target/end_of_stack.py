"""The end of every kernel stack, told to GDB in the one way that it understands: DWARF that has no return address.

A GDB Python unwinder can say where a caller is, but not that there is none.  So GDB gets a symbol file of a few
hundred bytes with one DWARF entry over the kernel's half of the address space.  Each function's own entry comes
first; where there is none (assembly), and our unwinder stays silent, the stack ends without a word.
"""

from __future__ import annotations

from gdb_kdump.arch.architecture import Architecture
from gdb_kdump.debuginfo.loading import add_symbol_file, in_memory
from gdb_kdump.debuginfo.symbol_file import elf_image, no_caller

_KERNEL_HALF = (0xFF00000000000000, 0x00FFFFFFFFFFF000)  # start, size: of 4- and 5-level paging alike
_TEXT = 0x4000000000000000  # a place that no kernel and no process has


def load(arch: Architecture) -> None:
    """Load the symbol file into GDB; opening the dump has dismissed that of an earlier one."""
    symbols = [("gdb_kdump_end_of_stack", _TEXT, 1)]  # GDB warns of a file without any
    sp = arch.registers.by_name[arch.sp].dwarf or 0
    frames = no_caller(*_KERNEL_HALF, arch.registers.return_column, sp)
    add_symbol_file(in_memory("end-of-stack", elf_image(arch.elf_machine, (_TEXT, 1), symbols, frames)))
