"""Slab caches that tell what their objects are: those of one struct, into which no other cache was merged."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.lists import list_for_each
from gdb_kdump.kernel.mm.allocator import allocator
from gdb_kdump.layout.table import NAMED_CACHES, TYPED_CACHES
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps, walk


class TypedCaches:
    """Knows these caches of one session; what cannot be read is none of them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tags: dict[int, str] = {}
        with walk("the caches of one struct each") as steps:
            for cache, tag in steps(self._all()):
                if self._is_alone(cache):
                    self._tags[cache] = tag

    def tag(self, cache: int) -> str:
        """The tag of the struct that all objects of a `struct kmem_cache *` are, "" where it does not tell."""
        return self._tags.get(cache, "")

    def _all(self) -> Iterator[tuple[int, str]]:
        for variable, tag in TYPED_CACHES:
            addr = self._session.debuginfo.find_address(variable)
            if addr is not None:
                yield self._session.memory.ptr(addr), tag
        yield from ((cache, "sock") for cache in self._of_protocols())
        for named in allocator(self._session).caches(Gaps()):
            if named.name in NAMED_CACHES:
                yield named.addr, NAMED_CACHES[named.name]

    def _of_protocols(self) -> Iterator[int]:
        """net/core/sock.c: proto_list; a protocol without a cache of its own has its sockets from kmalloc()."""
        session = self._session
        head, node = session.debuginfo.find_address("proto_list"), session.layout.find_member("proto.node")
        for link in list_for_each(session, head) if head is not None and node is not None else ():
            cache = session.pointer(link - node.offset if node is not None else 0, "proto.slab")
            if cache:
                yield cache

    def _is_alone(self, cache: int) -> bool:
        """Whether nobody else allocates from a cache; mm/slab_common.c: kmem_cache_create, which counts."""
        try:
            return self._session.number(cache, "kmem_cache.refcount") == 1
        except (Unreadable, Corrupt, MissingDebugInfo):
            return False
