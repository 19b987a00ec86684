"""What the debug information says about one kernel: types from GDB's DWARF, addresses from the vmlinux file."""

from __future__ import annotations

from functools import cached_property

import gdb

from gdb_kdump.arch.architecture import Architecture
from gdb_kdump.debuginfo.gdb_settings import changed
from gdb_kdump.debuginfo.kernel_file import KernelFile
from gdb_kdump.debuginfo.symbol_index import Symbol
from gdb_kdump.errors import MissingDebugInfo
from gdb_kdump.formats.cfi import CallFrames
from gdb_kdump.layout.layout import Layout
from gdb_kdump.layout.members import find_path
from gdb_kdump.records.rows import Row

_U64 = (1 << 64) - 1


class DebugInfo:
    """Types and symbol addresses of the vmlinux that GDB has loaded at `kaslr_offset` (bytes)."""

    def __init__(self, elf: KernelFile, kaslr_offset: int, arch: Architecture) -> None:
        self._elf = elf
        self._arch = arch
        self._kaslr_offset = kaslr_offset
        self._types: dict[str, gdb.Type | None] = {}
        self._addresses: dict[str, int | None] = {}
        self.layout = Layout(self.find_type)

    def close(self) -> None:
        """Let go of the file and of what was read of it."""
        self._elf.close()
        self.__dict__.pop("_call_frames", None)
        self._types.clear()
        self._addresses.clear()

    def find_type(self, name: str) -> gdb.Type | None:
        """The type of that C name ("struct sk_buff", "unsigned long"), or None."""
        if name not in self._types:
            with changed("language", "c"):  # in others of GDB's, C's names mean nothing
                try:
                    self._types[name] = gdb.lookup_type(name)
                except gdb.error:
                    self._types[name] = None
        return self._types[name]

    def type(self, name: str) -> gdb.Type:
        """The type of that C name; raises MissingDebugInfo."""
        known = self.find_type(name)
        if known is None:
            raise MissingDebugInfo(name)
        return known

    def find_address(self, symbol: str) -> int | None:
        """The address of a symbol as the dump has it, or None; a per-CPU symbol gives its offset."""
        if symbol not in self._addresses:
            entry = self._elf.find_symbol(symbol)
            moved = self._kaslr_offset if entry is not None and entry.relocated else 0
            self._addresses[symbol] = (entry.value + moved) & _U64 if entry is not None else None
        return self._addresses[symbol]

    def address(self, symbol: str) -> int:
        """The address of a symbol as the dump has it; raises MissingDebugInfo."""
        known = self.find_address(symbol)
        if known is None:
            raise MissingDebugInfo(f"symbol {symbol}")
        return known

    def find_variable(self, symbol: str, path: str = "", tag: str = "") -> int | None:
        """The address of a variable, or of the member at `path` of one that is a `struct tag` (or of its own name).

        None where this kernel lacks either.
        """
        addr = self.find_address(symbol)
        if addr is None or not path:
            return addr
        struct = self.layout.find_struct(tag or symbol)
        member = find_path(struct, path) if struct is not None else None
        return None if member is None else addr + member.offset

    def size(self, symbol: str) -> int:
        """The size of a symbol's object in bytes, as the symbol table has it; raises MissingDebugInfo."""
        entry = self._elf.find_symbol(symbol)
        if entry is None:
            raise MissingDebugInfo(f"symbol {symbol}")
        return entry.size

    def image(self) -> tuple[int, int]:
        """Where the kernel's image begins, with its code, and ends; arch/x86/kernel/vmlinux.lds.S: _stext, _end.

        Without these symbols the file's sections tell.
        """
        start, end = self.find_address("_stext"), self.find_address("_end")
        low, high = self._elf.image()
        return (
            start if start is not None else low + self._kaslr_offset,
            end if end is not None else high + self._kaslr_offset,
        )

    def code(self) -> list[tuple[int, int]]:
        """Where the image has code, as its sections say: from, to before, ascending."""
        return [(low + self._kaslr_offset, high + self._kaslr_offset) for low, high in self._elf.code()]

    def symbol_before(self, addr: int) -> tuple[str, int] | None:
        """The symbol of code at or below an address of the kernel's image, and where it is; None without one."""
        below = self._elf.symbol_before((addr - self._kaslr_offset) & _U64)
        return None if below is None else (below[0], below[1] + self._kaslr_offset)

    def symbol_at(self, addr: int) -> tuple[Symbol, int] | None:
        """The symbol that an address of the kernel's image lies in, code or data, and the offset in it; or None."""
        symbol = self._elf.symbols.find((addr - self._kaslr_offset) & _U64)
        return None if symbol is None else (symbol, (addr - self._kaslr_offset - symbol.start) & _U64)

    def percpu_symbol_at(self, percpu_address: int) -> tuple[Symbol, int] | None:
        """The same of a per-CPU address (`void __percpu *`)."""
        symbol = self._elf.percpu_symbols.find(percpu_address)
        if symbol is not None:
            return symbol, percpu_address - symbol.start
        start = self._elf.find_symbol("__per_cpu_start")
        return self.symbol_at(percpu_address) if start is not None and start.relocated else None

    def is_pointer(self, variable: str) -> bool:
        """Whether a global variable is a pointer, as far as the types say."""
        symbol = gdb.lookup_global_symbol(variable)
        return symbol is not None and symbol.type is not None and symbol.type.code == gdb.TYPE_CODE_PTR

    def enum_bits(self, enumerator: str) -> int:
        """All bits that the enum with that enumerator defines, or 0 where there is none."""
        symbol = gdb.lookup_static_symbol(enumerator)
        if symbol is None or symbol.type is None:
            return 0
        bits = 0
        for field in symbol.type.strip_typedefs().fields():
            bits |= int(field.enumval)
        return bits

    def enum_with(self, enumerator: str) -> dict[str, int]:
        """The enumerators of the enum, named or not, that has that one; none where the types have no such enum."""
        symbol = gdb.lookup_static_symbol(enumerator)
        if symbol is None or symbol.type is None:
            return {}
        return {str(field.name): int(field.enumval) for field in symbol.type.strip_typedefs().fields()}

    def find_percpu_address(self, addr: int) -> int | None:
        """The per-CPU address (`void __percpu *`) of what GDB has at `addr`; None where that is no per-CPU variable.

        GDB moves the section with the rest of the kernel, also where it is linked at 0 and KASLR leaves it there.
        """
        start, end = self._elf.find_symbol("__per_cpu_start"), self._elf.find_symbol("__per_cpu_end")
        linked = (addr - self._kaslr_offset) & _U64
        if start is None or end is None or not start.value <= linked < end.value:
            return None
        return addr if start.relocated else linked

    @cached_property
    def _call_frames(self) -> CallFrames:
        return CallFrames(self._elf.section(".debug_frame"), self._arch.registers.dwarf)

    def find_cfi(self, pc: int) -> Row | None:
        """DWARF's row for the code at `pc`, or None where it has none (assembly, modules)."""
        return self._call_frames.find((pc - self._kaslr_offset) & _U64)
