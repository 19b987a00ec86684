"""The memory that an address points into, as allocators tell."""

from __future__ import annotations

from gdb_kdump.records.record import record


@record
class Allocation:
    """The memory that an address points into.

    `kind` is "slab", "page" (allocated otherwise), "free" (a page that nobody has), or "unknown"; for slab memory
    `start` and `size` are the object's, `state` is "allocated", "free" or "unknown", and `cache` its kmem_cache's name.
    `is_skb` says that the cache is one of those that hold sk_buffs.
    """

    kind: str
    start: int = 0
    size: int = 0
    state: str = "unknown"
    cache: str = ""
    is_skb: bool = False
    offset_in_page: int = 0
    """How far into its page the address is, of kind page."""
    is_shared: bool = False
    """Whether caches of other objects were merged with this one: then its name proves nothing."""


UNKNOWN = Allocation("unknown")
