"""The memory that an address lies in."""

from __future__ import annotations

from dataclasses import dataclass

from gdb_kdump.records.owners import Kind, Link
from gdb_kdump.records.slab import SlabObject


@dataclass(frozen=True)
class Place:
    """The memory that an address lies in, from the inside out.

    `start` is where the object or area there begins, None where no allocator says; `slab_object` is the one there;
    `aliases` are other addresses of the same byte: in the direct map, in areas of vmalloc, in the kernel's image;
    `physical` is its physical address, None where that is not known.
    """

    kind: Kind
    links: tuple[Link, ...]
    start: int | None = None
    slab_object: SlabObject | None = None
    physical: int | None = None
    aliases: tuple[int, ...] = ()
