"""Loaded modules: where they stand, and which of their symbols an address lies in; kernel/module/."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.lists import list_for_each
from gdb_kdump.layout.module import module_regions, module_text
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps, walk

_SHN_UNDEF = 0
_MOST_SYMBOLS = 1 << 20  # far above any module; a damaged count would have all of memory read


@dataclass(frozen=True)
class Module:
    """One struct module: `ranges` are (first address, size in bytes) of its memory."""

    addr: int
    name: str
    ranges: tuple[tuple[int, int], ...]

    @property
    def base(self) -> int:
        """The address of its first region, as /proc/modules shows it."""
        return self.ranges[0][0] if self.ranges else 0

    @property
    def size(self) -> int:
        return sum(size for _, size in self.ranges)


class Modules:
    """Reads the modules of one session, none before an address outside the kernel's own text is asked for."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._layout = session.layout
        self._modules: tuple[Module, ...] | None = None
        self._gaps = Gaps()
        self._starts: list[tuple[int, int, Module]] = []
        self._symbols: dict[int, _Symbols] = {}
        self._text: dict[int, tuple[tuple[int, int], ...]] = {}

    def all(self, gaps: Gaps) -> tuple[Module, ...]:
        """Every module, in the order of the kernel's list, newest first."""
        modules = self._listed()
        gaps.note(*self._gaps)
        return modules

    def _listed(self) -> tuple[Module, ...]:
        if self._modules is None:
            modules: list[Module] = []
            self._gaps = Gaps()
            with walk("the list", self._gaps, lambda module: module.addr) as steps:
                for module in steps(self._for_each()):
                    modules.append(module)
            self._modules = tuple(modules)
            self._starts = sorted((low, low + size, module) for module in modules for low, size in module.ranges)
        return self._modules

    def _for_each(self) -> Iterator[Module]:
        head, offset = self._session.debuginfo.address("modules"), self._layout.offset("module.list")
        for node in list_for_each(self._session, head):
            yield self._read(node - offset)

    def _read(self, addr: int) -> Module:
        name = self._memory.cstring(addr + self._layout.offset("module.name"), self._layout.member("module.name").size)
        ranges = []
        for region, size_of in module_regions(self._layout):
            base, size = self._memory.u64(addr + region), self._memory.u32(addr + size_of)
            if base and size:
                ranges.append((base, size))
        return Module(addr, name.decode("utf-8", "backslashreplace"), tuple(ranges))

    def find(self, addr: int) -> Module | None:
        """The module that has an address, or None."""
        self._listed()
        number = bisect_right(self._starts, (addr + 1,)) - 1
        if number >= 0 and addr < self._starts[number][1]:
            return self._starts[number][2]
        return None

    def has_code(self, addr: int) -> bool:
        """Whether an address lies in the code of a module, as far as that is told from its data."""
        module = self.find(addr)
        if module is None:
            return False
        try:
            text = self.text_of(module)
        except (Unreadable, MissingDebugInfo):
            return True
        return any(low <= addr < low + size for low, size in text)

    def find_by_address(self, addr: int) -> Module | None:
        """The module at a `struct module *`, or None."""
        return next((module for module in self._listed() if module.addr == addr), None)

    def text_of(self, module: Module) -> tuple[tuple[int, int], ...]:
        """Where a module has code: (first address, size in bytes); raises Unreadable, MissingDebugInfo."""
        if module.addr not in self._text:
            places = ((module.addr + base, module.addr + size) for base, size in module_text(self._layout))
            areas = ((self._memory.u64(base), self._memory.u32(size)) for base, size in places)
            self._text[module.addr] = tuple((base, size) for base, size in areas if base and size)
        return self._text[module.addr]

    def symbols_of(self, module: Module) -> list[tuple[str, int]]:
        """The (name, address) of every symbol of a module; raises Unreadable, Corrupt, MissingDebugInfo."""
        return self._symbols_of(module).all()

    def find_symbol(self, module: Module, addr: int) -> tuple[str, int] | None:
        """The symbol of a module that an address lies in and the offset from it (bytes), or None.

        kernel/module/kallsyms.c: find_kallsyms_symbol.  Raises Unreadable, Corrupt, MissingDebugInfo.
        """
        return self._symbols_of(module).find(addr)

    def find_around(self, module: Module, addr: int) -> tuple[str, int] | None:
        """The same, but None where that symbol ends before the address: after it stands what has no name.

        Raises Unreadable, Corrupt, MissingDebugInfo.
        """
        return self._symbols_of(module).find(addr, is_around=True)

    def _symbols_of(self, module: Module) -> _Symbols:
        if module.addr not in self._symbols:
            self._symbols[module.addr] = self._read_symbols(module)
        return self._symbols[module.addr]

    def _read_symbols(self, module: Module) -> _Symbols:
        tag, holder = "module", module.addr
        pointer = self._layout.find_member("module.kallsyms")
        if pointer is not None:
            tag, holder = "mod_kallsyms", self._memory.ptr(module.addr + pointer.offset)
        unpacker = self._layout.unpacker(tag, ("symtab", "num_symtab", "strtab"))
        symtab, count, strtab = unpacker.unpack_from(*self._memory.block(holder, unpacker.span))
        return _Symbols(self._session, module, symtab, count, strtab)


class _Symbols:
    """The symbols of one module, sorted by address; names are read when asked for."""

    def __init__(self, session: Session, module: Module, symtab: int, count: int, strtab: int) -> None:
        self._memory = session.memory
        self._strtab = strtab
        unpacker = session.layout.unpacker("elf64_sym", ("st_name", "st_shndx", "st_value", "st_size"))
        if count > _MOST_SYMBOLS:
            raise Corrupt(module.addr, f"a struct module with {count} symbols")
        data = session.memory.read(symtab, count * unpacker.size)
        rows: list[Sequence[int]] = [unpacker.unpack_from(data, at) for at in range(0, len(data), unpacker.size)]
        inside = [
            (value, name, size) for name, section, value, size in rows
            if section != _SHN_UNDEF and any(low <= value < low + size for low, size in module.ranges)
        ]  # fmt: skip
        self._rows = sorted(inside)
        self._values = [value for value, *_ in self._rows]

    def all(self) -> list[tuple[str, int]]:
        """Every symbol with a real name, and its address."""
        named = ((self._name(offset), value) for value, offset, _ in self._rows)
        return [(name, value) for name, value in named if name]

    def find(self, addr: int, is_around: bool = False) -> tuple[str, int] | None:
        """The symbol at or below an address, and the offset from it (bytes), or None; a label has no size to end at."""
        for number in range(bisect_right(self._values, addr) - 1, -1, -1):
            value, offset, size = self._rows[number]
            name = self._name(offset, is_around)
            if name:
                return None if is_around and 0 < size <= addr - value else (name, addr - value)
        return None

    def _name(self, offset: int, with_padding: bool = False) -> str:
        """The name at an offset of the string table; "" for sections and, unless wanted, for a function's padding."""
        name = self._memory.cstring(self._strtab + offset).decode("utf-8", "backslashreplace")
        return "" if name.startswith(".L") or (name.startswith("__pfx_") and not with_padding) else name
