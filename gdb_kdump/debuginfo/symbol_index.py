"""Which symbol of a vmlinux an address lies in, code or data, by a table that is sorted once."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass

from gdb_kdump.debuginfo.elf import without_llvm

_SIZE = 24  # Elf64_Sym: name u32, info u8, other u8, shndx u16, value u64, size u64
_STT_FUNC = 2  # NOTYPE and OBJECT come before it, SECTION and FILE after
_STB_LOCAL = 0
_REACH = 1 << 16  # bytes that code may have after its label: there are large holes between parts of the kernel
_NESTED = 16  # symbols that begin between an address and the one that it lies in


@dataclass(frozen=True)
class Symbol:
    """A symbol: its link-time address, size in bytes (0 of a label), and whether it is code."""

    name: str
    start: int
    size: int
    is_code: bool


class SymbolIndex:
    """The symbols of some sections, from an ELF symbol table and its names; `code` are the sections with code."""

    def __init__(self, table: bytes, names: bytes, sections: Collection[int], code: Collection[int]) -> None:
        self._table = table
        self._names = names
        self._code = frozenset(code)
        values = memoryview(table).cast("Q")[1 :: _SIZE // 8].tolist()
        kinds = table[4::_SIZE]
        places = memoryview(table).cast("H")[3 :: _SIZE // 2].tolist()
        wanted = frozenset(sections)
        chosen = [n for n, place in enumerate(places) if place in wanted and kinds[n] & 15 <= _STT_FUNC]
        chosen.sort(key=values.__getitem__)
        self._entries = array("I", chosen)
        self._starts = array("Q", [values[n] for n in chosen])

    def find(self, addr: int) -> Symbol | None:
        """The symbol that a link-time address lies in, or None; in code, where that is in none, the one before it.

        Of several the shortest, of these a global one, of these that with the shortest name.
        """
        last = bisect_right(self._starts, addr) - 1
        before: Symbol | None = None
        around: list[tuple[int, bool, int, Symbol]] = []
        for number in range(last, max(-1, last - _NESTED), -1):
            if around and self._starts[number] < around[0][3].start:
                break
            symbol, is_local = self._read(self._entries[number])
            if not symbol.name:
                continue
            if addr < symbol.start + symbol.size:
                around.append((symbol.size, is_local, len(symbol.name), symbol))
            elif before is None and symbol.is_code and addr - symbol.start < _REACH:
                before = symbol
        return min(around, key=lambda row: row[:3])[3] if around else before

    def _read(self, entry: int) -> tuple[Symbol, bool]:
        """A symbol, with "" for what is no name for people, and whether it is local."""
        row = self._table[entry * _SIZE : (entry + 1) * _SIZE]
        at, info, place = int.from_bytes(row[:4], "little"), row[4], int.from_bytes(row[6:8], "little")
        name = self._names[at : self._names.find(b"\0", at)].decode("utf-8", "backslashreplace")
        if name.startswith(".L"):
            name = ""
        start, size = int.from_bytes(row[8:16], "little"), int.from_bytes(row[16:24], "little")
        return Symbol(without_llvm(name), start, size, place in self._code), info >> 4 == _STB_LOCAL
