"""What memory an address is: the record that the rules about freed and foreign memory judge."""

from __future__ import annotations

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.pages import Pages
from gdb_kdump.kernel.slab import Slabs
from gdb_kdump.kernel.slaballoc import SlabAllocator, allocator
from gdb_kdump.layout import SKB_CACHES
from gdb_kdump.members import find_path
from gdb_kdump.rules.records import Place
from gdb_kdump.session import Session

_UNKNOWN = Place("unknown")


class Places:
    """Tells what the memory of one session is; unknown where the dump or its debug information cannot say."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pages: Pages | None = None
        self._slabs: Slabs | SlabAllocator | None = None
        self.why_unknown = ""
        """Why the place of every address is unknown, or "" where it is not."""
        self.skb_caches = self._find_skb_caches()
        try:
            self._pages, self._slabs = session.once(Pages), allocator(session)
        except (MissingDebugInfo, Unreadable) as error:
            self.why_unknown = f"nothing says which memory is allocated: {error}"

    def of(self, addr: int) -> Place:
        """The place of an address."""
        if self._pages is None or self._slabs is None:
            return _UNKNOWN
        try:
            found = self._slabs.find_state(addr)
            if found is not None:
                cache, start, state = found
                # Where no skb cache is known, anything may be one.
                is_skb = cache.addr in self.skb_caches or not self.skb_caches
                return Place("slab", start, cache.object_size, state, cache.name, is_skb)
            page = self._pages.find(addr)
        except (MissingDebugInfo, Unreadable, Corrupt):
            return _UNKNOWN
        if page is None:
            return _UNKNOWN
        # On a CPU's list of free pages one has no reference and nothing else to tell; memory of large kmalloc()s has
        # no reference either (since v6.16), but a page type.
        nobodys = page.is_free or (not page.refcount and page.kind in ("", "compound"))
        return Place("free" if nobodys else "page", page.start)

    def _find_skb_caches(self) -> frozenset[int]:
        """The addresses of the skb caches; net/core/skbuff.c: skb_init."""
        debuginfo, found = self._session.debuginfo, set()
        for symbol, path in SKB_CACHES:
            addr = debuginfo.find_address(symbol)
            if addr is None:
                continue
            if path:
                struct = debuginfo.find_type(f"struct {symbol}")
                member = find_path(struct, path) if struct is not None else None
                if member is None:
                    continue
                addr += member.offset
            try:
                found.add(self._session.memory.ptr(addr))
            except Unreadable:
                continue
        return frozenset(found)
