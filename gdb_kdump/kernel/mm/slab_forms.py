"""The two forms that a slab of the allocator SLAB has had; mm/slab.c.

8456a648cf44 (v3.13) slab: use struct page for slab management took the first one's place.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Protocol

from gdb_kdump.errors import Corrupt, MissingDebugInfo
from gdb_kdump.layout.members import find_path
from gdb_kdump.layout.mm import freelist_index_size
from gdb_kdump.session import Session

_INDICES = {1: "B", 2: "H", 4: "I"}


class SlabForm(Protocol):
    """What a slab says of itself; a slab is its address, each method raises Unreadable."""

    list_node: int
    """Where in it the struct list_head is that has it on a node's list, in bytes."""

    def of_page(self, page: int) -> tuple[int, int]:
        """The `struct kmem_cache *` and the slab of the `struct page *` of a slab's memory."""

    def start_and_inuse(self, slab: int) -> tuple[int, int]:
        """The address of its first object, and how many are in use or wait in an array."""

    def free_indices(self, slab: int, inuse: int, objects: int) -> Iterator[int]:
        """The numbers of its free objects; raises Corrupt."""


class OwnStruct:
    """A struct slab of its own, on the slab or elsewhere, with a chain of free objects behind it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        kind = session.debuginfo.type("struct slab")
        self._size, members = kind.sizeof, {}
        for name in ("list", "s_mem", "inuse", "free"):
            found = find_path(kind, name)
            if found is None:
                raise MissingDebugInfo(f"member slab.{name}")
            members[name] = found.offset
        self.list_node, self._s_mem, self._inuse, self._free = members.values()

    def of_page(self, page: int) -> tuple[int, int]:
        return self._session.pointer(page, "page.slab_cache"), self._session.pointer(page, "page.slab_page")

    def start_and_inuse(self, slab: int) -> tuple[int, int]:
        return self._memory.ptr(slab + self._s_mem), self._memory.u32(slab + self._inuse)

    def free_indices(self, slab: int, inuse: int, objects: int) -> Iterator[int]:
        """The chain begins at `free`, and its links are the array behind the struct; mm/slab.c: slab_bufctl."""
        links = struct.unpack(f"<{objects}I", self._memory.read(slab + self._size, 4 * objects))
        index, seen = self._memory.u32(slab + self._free), set[int]()
        while index < objects:  # BUFCTL_END is the largest number
            if index in seen:
                raise Corrupt(slab, "the chain of free objects runs in a circle")
            seen.add(index)
            yield index
            index = links[index]


class PageStruct:
    """The slab's struct page, since v5.17 called struct slab, and an array of the numbers of its free objects."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.list_node = session.layout.offset("slab.slab_list")
        self._index_size = freelist_index_size(session.layout)

    def of_page(self, page: int) -> tuple[int, int]:
        return self._session.pointer(page, "slab.slab_cache"), page

    def start_and_inuse(self, slab: int) -> tuple[int, int]:
        return self._session.pointer(slab, "slab.s_mem"), self._session.number(slab, "slab.active")

    def free_indices(self, slab: int, inuse: int, objects: int) -> Iterator[int]:
        """Those from `active` on; mm/slab.c: slab_get_obj.  The array may stand in a free object: no array without."""
        if inuse == objects:
            return
        size = self._index_size
        array = self._session.pointer(slab, "slab.freelist")
        data = self._session.memory.read(array + inuse * size, (objects - inuse) * size)
        for index in struct.unpack(f"<{objects - inuse}{_INDICES[size]}", data):
            if index >= objects:
                raise Corrupt(array, f"the list of free objects has number {index} of {objects}")
            yield index


def slab_form(session: Session) -> SlabForm:
    """The form that this kernel's slabs have; raises MissingDebugInfo."""
    layout = session.layout
    is_page = layout.find_struct("slab") is not None and layout.find_member("slab.active") is not None
    return PageStruct(session) if is_page else OwnStruct(session)
