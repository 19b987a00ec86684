"""What memory an address is: the record that the rules about freed and foreign memory judge."""

from __future__ import annotations

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.mm.allocator import allocator
from gdb_kdump.kernel.mm.pages import Pages
from gdb_kdump.kernel.mm.slab import SlabAllocator
from gdb_kdump.kernel.mm.slub import SlubAllocator
from gdb_kdump.layout.table import SKB_CACHES
from gdb_kdump.records.allocation import Allocation
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps

_UNKNOWN = Allocation("unknown")


class Allocations:
    """Tells what the memory of one session is; unknown where the dump or its debug information cannot say."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pages: Pages | None = None
        self._slabs: SlubAllocator | SlabAllocator | None = None
        self.gaps = Gaps()
        """Why every address is unknown, where it is."""
        self._skb_caches_gaps = Gaps()
        self._skb_caches = self._find_skb_caches(self._skb_caches_gaps)
        self._shared = {addr for addr in self._skb_caches if self._is_shared(addr)}
        try:
            self._pages, self._slabs = session.once(Pages), allocator(session)
        except (MissingDebugInfo, Unreadable) as error:
            self.gaps.note(f"nothing says which memory is allocated: {error}")

    def of(self, addr: int) -> Allocation:
        """What an address is; unknown where `gaps` or a hole in the dump keep it from being told."""
        if self._pages is None or self._slabs is None:
            return _UNKNOWN
        try:
            slab_object = self._slabs.find_state(addr)
            if slab_object is not None:
                cache, start, state = slab_object
                # Where not all skb caches are known, anything may be one.
                is_skb = cache.addr in self._skb_caches or len(self._skb_caches_gaps) > 0
                is_shared = is_skb and (cache.addr in self._shared or len(self._skb_caches_gaps) > 0)
                return Allocation("slab", start, cache.object_size, state, cache.name, is_skb, is_shared=is_shared)
            page = self._pages.find(addr)
        except MissingDebugInfo as error:
            self.gaps.note(f"nothing says which memory is allocated: {error}")
            return _UNKNOWN
        except (Unreadable, Corrupt):
            return _UNKNOWN
        if page is None:
            return _UNKNOWN
        # On a CPU's list of free pages one has no reference and nothing else to tell; memory of large kmalloc()s has
        # no reference either (since v6.16), but a page type.
        is_free = page.is_free or (not page.refcount and page.kind in ("", "compound"))
        allocation = "free" if is_free else "page"
        return Allocation(allocation, page.start, offset_in_page=addr % self._pages.page_size)

    def skb_caches(self, gaps: Gaps) -> frozenset[int]:
        """The `struct kmem_cache *` of the caches that have sk_buffs; net/core/skbuff.c: skb_init."""
        gaps.note(*self._skb_caches_gaps)
        return self._skb_caches

    def is_shared(self, cache: int) -> bool:
        """Whether an skb cache (address) may have other objects, too; mm/slab_common.c: __kmem_cache_alias."""
        return cache in self._shared

    def _is_shared(self, cache: int) -> bool:
        """Whether more than one kmem_cache_create() was given this `struct kmem_cache *`, for all that is known."""
        try:
            if self._session.layout.find_member("kmem_cache.refcount") is None:
                return True
            return self._session.number(cache, "kmem_cache.refcount") > 1
        except (MissingDebugInfo, Unreadable):
            return True

    def _find_skb_caches(self, gaps: Gaps) -> frozenset[int]:
        caches = set()
        for places in SKB_CACHES:
            variable = next(filter(None, (self._session.debuginfo.find_variable(*place) for place in places)), None)
            try:
                if variable is None:
                    raise MissingDebugInfo(" or ".join(path or symbol for symbol, path in places))
                caches.add(self._session.memory.ptr(variable))
            except (MissingDebugInfo, Unreadable) as error:
                gaps.note(str(error))
        return frozenset(caches)
