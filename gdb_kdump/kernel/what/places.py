"""What memory an address lies in: code, a variable, a stack, a CPU's copy of one, or what page_places.py tells."""

from __future__ import annotations

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.percpu_areas import PerCpuAreas
from gdb_kdump.kernel.module.modules import Module, Modules
from gdb_kdump.kernel.module.source import Source
from gdb_kdump.kernel.stack.whose_stack import StackOwners
from gdb_kdump.kernel.what.page_places import PagePlaces
from gdb_kdump.kernel.what.place import Place
from gdb_kdump.records.owners import Kind, Link, at
from gdb_kdump.session import Session
from gdb_kdump.text import escape, hex16, is_kernel_address
from gdb_kdump.walks import Gaps


class Places:
    """Tells of the memory of one session what it is; what keeps it from telling goes to `gaps`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._source = session.once(Source)
        self._modules = session.once(Modules)
        self._pages = session.once(PagePlaces)
        self._half = session.arch.address_bits(session.vmcoreinfo) - 1

    @property
    def gaps(self) -> Gaps:
        """What keeps it from telling of an address what it is."""
        return self._pages.gaps

    def of(self, addr: int) -> Place:
        """The place of an address."""
        if addr >> self._half not in (0, (1 << 64 - self._half) - 1):
            return _nothing(Kind.NON_CANONICAL, addr, " is no address: it is not canonical")
        if not addr:
            return _nothing(Kind.USER, addr, " is NULL")
        if not addr >> self._half:
            words = " is an address of user space, or a physical one (kwhat -p), and none of the kernel's"
            return _nothing(Kind.USER, addr, words)
        if not is_kernel_address(addr):
            return _nothing(Kind.NOWHERE, addr, f" is no address: it is {addr - (1 << 64)}, as an error is returned")
        place = self._stack(addr) or self.symbol(addr) or self._percpu(addr) or self._pages.find(addr)
        return place or self._nowhere(addr)

    def _nowhere(self, addr: int) -> Place:
        why = self._memory.why(addr)
        words = "no page, symbol or area of the kernel that is known" if why is None else why.sentence
        return _nothing(Kind.NOWHERE, addr, f": {words}")

    def _stack(self, addr: int) -> Place | None:
        stack = self._session.once(StackOwners).find(addr)
        if stack is None:
            return None
        offset, name = addr - stack.low, f"{stack.name or 'stack'} {hex16(stack.low)}"
        return Place(Kind.STACK, (Link("stack", stack.low, offset, at(name, offset)),))

    def symbol(self, addr: int) -> Place | None:
        """The place of an address in code or in a variable of the kernel's image or a module, or None."""
        if self._source.in_kernel(addr):
            return self._in_image(addr)
        module = self._modules.find(addr)
        if module is not None:
            return self._in_module(module, addr)
        generated = self._source.find_generated(addr)
        if generated is None:
            return None
        offset = addr - generated.start
        return Place(Kind.GENERATED, (Link("function", generated.start, offset, at(generated.name, offset)),))

    def _in_image(self, addr: int) -> Place:
        known = self._session.debuginfo.symbol_at(addr)
        if known is None:
            start, _ = self._session.debuginfo.image()
            words = at("the kernel's image", addr - start, ", in no symbol")
            return Place(Kind.IMAGE, (Link("image", start, addr - start, words),))
        symbol, offset = known
        what = "function" if symbol.is_code else "variable"
        return Place(Kind.SYMBOL, (Link(what, addr - offset, offset, at(symbol_words(symbol.name), offset)),))

    def _in_module(self, module: Module, addr: int) -> Place:
        name, offset = f"module {escape(module.name)}", addr - module.base
        try:
            known = self._modules.find_around(module, addr)
        except (Unreadable, Corrupt, MissingDebugInfo):
            known = None
        if known is None:
            return Place(Kind.MODULE, (Link("module", module.base, offset, at(name, offset, ", in no symbol")),))
        of = Link("module", module.base, offset, name)
        symbol, offset = known
        return Place(Kind.MODULE, (Link("symbol", addr - offset, offset, at(symbol_words(escape(symbol)), offset)), of))

    def _percpu(self, addr: int) -> Place | None:
        percpu = self._session.once(PerCpuAreas).find(addr)
        if percpu is None:
            return None
        name = f"per-CPU variable {percpu.name}" if percpu.name else "per-CPU memory of a module or alloc_percpu()"
        words = at(name, percpu.offset, f" of CPU {percpu.cpu}")
        link = Link("per-CPU variable", percpu.addr, percpu.offset, words)
        return Place(Kind.PERCPU, (link,), percpu.addr if percpu.name else None)


def symbol_words(name: str) -> str:
    """A symbol under its function's name: that of a part which the compiler has moved away says so."""
    function, _, part = name.partition(".cold")
    return f"{function} (its .cold part)" if function != name and not part.strip(".0123456789") else name


def _nothing(kind: Kind, addr: int, words: str) -> Place:
    return Place(kind, (Link("", addr, 0, f"{hex16(addr)}{words}"),))
