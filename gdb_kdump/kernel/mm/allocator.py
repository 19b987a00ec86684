"""Which allocator this kernel has: SLUB, or SLAB before v6.8."""

from __future__ import annotations

from gdb_kdump.kernel.mm.slab import SlabAllocator
from gdb_kdump.kernel.mm.slub import SlubAllocator
from gdb_kdump.layout.mm import slab_allocator
from gdb_kdump.session import Session


def allocator(session: Session) -> SlubAllocator | SlabAllocator:
    """The reader of the allocator that this kernel has; raises MissingDebugInfo for another one."""
    return session.once(SlabAllocator) if slab_allocator(session.layout) == "SLAB" else session.once(SlubAllocator)
