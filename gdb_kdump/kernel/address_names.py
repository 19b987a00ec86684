"""What stands at an address, in a few words: symbol, per-CPU variable, stack, object of a slab, page."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.percpu import PerCpu
from gdb_kdump.kernel.mm.allocator import allocator
from gdb_kdump.kernel.mm.pages import Pages
from gdb_kdump.kernel.module.code import CodeOwners
from gdb_kdump.kernel.module.source import Source
from gdb_kdump.kernel.sched.stacks import AllStacks
from gdb_kdump.records.code import Place
from gdb_kdump.session import Session
from gdb_kdump.text import hex16


class AddressName(NamedTuple):
    """What an address is: one word for its kind, and a phrase."""

    kind: str
    text: str


class AddressNames:
    """Names addresses of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._owners = session.once(CodeOwners)
        self._source = session.once(Source)
        self._stacks = session.once(AllStacks)

    def of(self, addr: int) -> AddressName | None:
        """What is at an address, or None where nothing tells."""
        return self._stack(addr) or self._code(addr) or self._per_cpu(addr) or self._slab(addr) or self._page(addr)

    def _stack(self, addr: int) -> AddressName | None:
        stack = self._stacks.find(addr)
        return None if stack is None else AddressName("stack", f"{stack.name}, at +{addr - stack.start:#x}")

    def _code(self, addr: int) -> AddressName | None:
        code = self._owners.of(addr)
        if code.place is Place.NOWHERE:
            return None
        if code.place is Place.MODULE:
            return AddressName("module", f"{code.symbol or hex16(addr)} [{code.module}]")
        return AddressName("symbol", code.symbol or "the kernel's image, where no symbol is")

    def _per_cpu(self, addr: int) -> AddressName | None:
        for cpu, start, end, linked in self._areas:
            if start <= addr < end:
                name, offset = self._source.symbol(addr - start + linked)
                return AddressName("percpu", f"{name}+{offset:#x} of CPU {cpu}") if name else None
        return None

    @cached_property
    def _areas(self) -> list[tuple[int, int, int, int]]:
        """Each CPU's per-CPU variables: its number, first address, the one after the last, and where GDB has them."""
        session = self._session
        find, moved = session.debuginfo.find_address, session.kaslr_offset
        start, end = find("__per_cpu_start"), find("__per_cpu_end")
        if start is None or end is None:
            return []
        # GDB moves them with the rest of the kernel, also where they were linked at 0.
        linked = start + moved - session.debuginfo.percpu_address(moved)
        try:
            percpu = session.once(PerCpu)
            firsts = [(cpu, percpu.pointer(start, cpu)) for cpu in percpu.possible_cpus()]
        except (Unreadable, MissingDebugInfo):
            return []
        return [(cpu, first, first + end - start, linked) for cpu, first in firsts]

    def _slab(self, addr: int) -> AddressName | None:
        try:
            state = allocator(self._session).find_state(addr)
        except (Unreadable, Corrupt, MissingDebugInfo):
            return None
        if state is None:
            return None
        cache, start, word = state
        return AddressName("slab", f"{cache.name} object {hex16(start)}{addr - start:+#x}, {word}")

    def _page(self, addr: int) -> AddressName | None:
        try:
            page = self._session.once(Pages).find(addr)
        except (Unreadable, MissingDebugInfo):
            return None
        if page is None:
            return None
        used = "free" if page.is_free else page.kind or ("in use" if page.refcount else "not in use")
        size = f" of order {page.order}" if page.order else ""
        return AddressName("page", f"page{size}, {used}")


class NoNames:
    """In place of AddressNames where the kernel's types are too few for it."""

    def of(self, _: int) -> AddressName | None:
        """Nothing."""
        return None


def address_names(session: Session) -> AddressNames | NoNames:
    """What names the addresses of a session."""
    try:
        return session.once(AddressNames)
    except (MissingDebugInfo, Unreadable):
        return NoNames()
