"""A vmlinux in one file, or in two: stripped, and the debug information that was taken out of it.

What is left of a section in the other file is its header, of type SHT_NOBITS.
"""

from __future__ import annotations

from functools import cached_property

from gdb_kdump.debuginfo.elf import ElfFile, ElfSymbol
from gdb_kdump.debuginfo.symbol_index import SymbolIndex

_LONGEST_BANNER = 1024


class KernelFile:
    """Files of one kernel: each section, and the symbol table, is that of the first file that has it."""

    def __init__(self, *files: ElfFile) -> None:
        self._files = files
        self.path = files[0].path
        """The file that was named, or found."""
        self.build_id = files[0].build_id
        self._symbols = next((file for file in files if file.has_symbols), files[0])

    def close(self) -> None:
        """Close the files: what they are stays known, their symbols do not."""
        for file in self._files:
            file.close()
        self.__dict__.pop("symbols", None)
        self.__dict__.pop("percpu_symbols", None)

    @property
    def machine(self) -> int:
        """e_machine: the number of the machine that the kernel is for."""
        return self._files[0].machine

    @property
    def with_debug_info(self) -> ElfFile | None:
        """The file that has DWARF, or None."""
        return next((file for file in self._files if file.has_debug_info), None)

    @property
    def has_symbols(self) -> bool:
        """Whether one of the files has a symbol table."""
        return self._symbols.has_symbols

    @property
    def has_btf(self) -> bool:
        """Whether one of the files has BTF."""
        return any(file.has_btf for file in self._files)

    @property
    def debuglink(self) -> str | None:
        """The name of the file with debug information that the first file was stripped of, or None."""
        return self._files[0].debuglink

    @property
    def for_gdb(self) -> tuple[ElfFile, ElfFile]:
        """What GDB reads: the file with the symbols, and the one with debug information; the same, if that has both."""
        debug = self.with_debug_info
        assert debug is not None, "find_vmlinux gives no other"
        return (debug if debug.has_symbols else self._symbols), debug

    def section(self, name: str) -> bytes:
        """The contents of a section, decompressed; empty where no file has them."""
        return next(filter(None, (file.section(name) for file in self._files)), b"")

    def image(self) -> tuple[int, int]:
        """The lowest link-time address of code, and the one after all that is in memory; both 0 without any code."""
        return self._files[0].image()

    def code(self) -> list[tuple[int, int]]:
        """The link-time addresses of code: those of each section, from, to before."""
        return self._files[0].code()

    def read(self, addr: int, size: int) -> bytes:
        """The bytes at a link-time address, as many as their section has; empty where no file has them."""
        return next(filter(None, (file.read(addr, size) for file in self._files)), b"")

    def find_symbol(self, name: str) -> ElfSymbol | None:
        """The symbol of that name, or None; see ElfFile."""
        return self._symbols.find_symbol(name)

    def symbol_before(self, addr: int) -> tuple[str, int] | None:
        """The symbol of code at or below a link-time address, and its address; see ElfFile."""
        return self._symbols.symbol_before(addr)

    @cached_property
    def symbols(self) -> SymbolIndex:
        """All symbols of what is in memory, by link-time address."""
        sections = self._symbols.loaded_sections()
        code = [number for number, _, has_code in sections if has_code]
        return SymbolIndex(*self._symbols.symbol_table, [number for number, addr, _ in sections if addr], code)

    @cached_property
    def percpu_symbols(self) -> SymbolIndex:
        """Those of per-CPU variables where their section is linked at 0: x86-64 before v6.15."""
        sections = self._symbols.loaded_sections()
        return SymbolIndex(*self._symbols.symbol_table, [number for number, addr, _ in sections if not addr], ())

    @cached_property
    def banner(self) -> bytes:
        """What linux_banner says ("Linux version ..."), or b"" where no file has it."""
        symbol = self.find_symbol("linux_banner")
        return b"" if symbol is None else self.read(symbol.value, _LONGEST_BANNER).partition(b"\0")[0]
