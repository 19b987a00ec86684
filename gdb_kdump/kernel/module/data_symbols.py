"""The names of variables: what stands at an address of the kernel's or a module's data."""

from __future__ import annotations

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.module.modules import Modules
from gdb_kdump.kernel.module.source import Source
from gdb_kdump.session import Session


class DataSymbols:
    """Looks up the variables of one session."""

    def __init__(self, session: Session) -> None:
        self._source = session.once(Source)
        self._modules = session.once(Modules)

    def name(self, addr: int) -> str:
        """`symbol`, or `symbol+0x8` within it, with ` [module]` for a module's; "" for what is no variable of either.

        A symbol is the last one before the address: nothing tells how far it goes.
        """
        if self._source.in_kernel(addr):
            name, offset = self._source.symbol(addr)
            return f"{name}+{offset:#x}" if name and offset else name or ""
        module = self._modules.find(addr)
        if module is None:
            return ""
        try:
            symbol = self._modules.find_symbol(module, addr)
        except (Unreadable, Corrupt, MissingDebugInfo):
            symbol = None
        if symbol is None:
            return f"[{module.name}]"
        return f"{symbol[0]}+{symbol[1]:#x} [{module.name}]" if symbol[1] else f"{symbol[0]} [{module.name}]"
