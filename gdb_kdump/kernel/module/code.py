"""Whose function or variable stands at an address, with the letters by which its module taints the kernel."""

from __future__ import annotations

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.module.modules import Module, Modules
from gdb_kdump.kernel.module.source import Source
from gdb_kdump.records.code import Code, Place
from gdb_kdump.session import Session
from gdb_kdump.text import escape

# Documentation/admin-guide/tainted-kernels.rst: the letter of each bit, where the kernel has no table of them (v4.10).
_MAX_NAME = 56  # include/linux/module.h: MODULE_NAME_LEN
_LETTERS = "PFSRMBUDAWCIOELKXTN"


class CodeOwners:
    """Names the functions and variables of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._source = session.once(Source)
        self._modules = session.once(Modules)
        self._letters = self._table() or _LETTERS
        self._known: dict[int, Code] = {}

    def _table(self) -> str:
        """The letters of kernel/panic.c: taint_flags."""
        session = self._session
        table, struct = session.debuginfo.find_address("taint_flags"), session.layout.find_struct("taint_flag")
        if table is None or struct is None:
            return ""
        letter, size = session.layout.offset("taint_flag.c_true"), struct.sizeof
        try:
            data = session.memory.read(table, session.debuginfo.size("taint_flags"))
        except Unreadable:
            return ""
        return data[letter::size].decode("ascii", "replace")

    def last_unloaded(self) -> str:
        """The name of the module that was unloaded last, "" where there is none; kernel/module/main.c."""
        variable = self._session.debuginfo.find_address("last_unloaded_module")  # first the name
        try:
            return escape(self._session.memory.cstring(variable, _MAX_NAME)) if variable is not None else ""
        except Unreadable:
            return ""

    def of(self, addr: int) -> Code:
        """What stands at an address; a symbol is the last one before it, as nothing tells how far that goes."""
        if addr not in self._known:
            self._known[addr] = self._look_up(addr)
        return self._known[addr]

    def _look_up(self, addr: int) -> Code:
        if self._source.in_kernel(addr):
            name, offset = self._source.symbol(addr)
            return Code(addr, _with_offset(name, offset), Place.KERNEL)
        module = self._modules.find(addr)
        if module is None:
            return Code(addr, "", Place.NOWHERE)
        try:
            symbol = self._modules.find_symbol(module, addr) or ("", 0)
        except (Unreadable, Corrupt, MissingDebugInfo):
            symbol = ("", 0)
        return Code(addr, _with_offset(*symbol), Place.MODULE, module.name, self.taint(module))

    def taint(self, module: Module) -> str:
        """The letters of a module, "?" where its taints cannot be read; kernel/module/main.c: module_flags_taint."""
        try:
            bits = self._session.number(module.addr, "module.taints")
        except (Unreadable, MissingDebugInfo):
            return "?"
        return "".join(letter for bit, letter in enumerate(self._letters) if bits >> bit & 1)


def _with_offset(name: str | None, offset: int | None) -> str:
    return f"{name}+{offset:#x}" if name and offset else name or ""
