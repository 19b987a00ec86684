"""freelist: the allocator followed a free pointer that somebody had overwritten; mm/slub.c: get_freepointer.

The task that allocated is innocent, and so is what it allocates for: what wrote into the freed object need not be in
these frames, so nobody is named.
"""

from __future__ import annotations

import re

from gdb_kdump.diagnosis.causes.answer import CERTAIN, Case, Cause, Evidence
from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.mm.allocator import allocator
from gdb_kdump.kernel.mm.slub import SlubAllocator
from gdb_kdump.kernel.mm.slub_caches import SlabCaches
from gdb_kdump.records.slab import COUNT, SlabCache
from gdb_kdump.text import hex16, is_kernel_address

_ALLOCATES = re.compile(r"(__)?(kmem_cache_alloc|kmalloc|slab_alloc|__slab_alloc|kmem_cache_free|kfree)\w*$")
_FILES = ("mm/slub.c", "mm/slab_common.c", "mm/slab.h")
_USERCOPY = "mm/usercopy.c"


def freelist(case: Case) -> Cause | None:
    """The CPU fell in the allocator, and the list that it took from leads out of its slab."""
    if case.trip.place.startswith(_USERCOPY):
        return _foreign_buffer(case)
    fault = case.trip.fault
    if fault is None or not (_ALLOCATES.match(fault.source.function or "") or (fault.source.file or "") in _FILES):
        return None
    try:
        caches = case.session.once(SlabCaches)
        named = [pointer.value for pointer in case.pointers if pointer.type == "kmem_cache"]
        for addr in dict.fromkeys(named):
            cause = _of_cache(case, caches, caches.read(addr))
            if cause is not None:
                return cause
    except (Unreadable, Corrupt, MissingDebugInfo):
        return None
    return None


def _of_cache(case: Case, caches: SlabCaches, cache: SlabCache) -> Cause | None:
    row = next((row for row in caches.cpu_slabs(cache) if row.cpu == case.cpu), None)
    if row is None or not row.slab:
        return None
    slab = case.session.once(SlubAllocator).slab(row.slab)
    problem = next((problem for problem in slab.problems if problem.kind != COUNT), None)
    leads = row.freelist
    if problem is None and (not leads or slab.start <= leads < slab.end):
        return None
    if problem is not None and problem.object:
        told = (
            f"free object {hex16(problem.object)} was written to: its pointer to the next one is {hex16(problem.found)}"
        )
        at, command = problem.object, f"kslab {hex16(problem.object)}"
    else:
        told = f"the next object to be handed out is {hex16(leads)}, which is not in the slab"
        at, command = slab.addr, f"kslab {hex16(slab.start)}"
    owner = _owner(case, leads, cache)
    return Cause(
        "freelist",
        f"the free list of {cache.name} on CPU {case.cpu} leads astray: {told}{owner}",
        CERTAIN,
        (Evidence(told, command), Evidence(f"the CPU fell over it at {hex16(case.pc)}", "kbt")),
        at,
        "freelist",
    )


def _owner(case: Case, leads: int, cache: SlabCache) -> str:
    """Where the pointer leads to, if that is an object of another cache."""
    if not is_kernel_address(leads):
        return ""
    try:
        entry = allocator(case.session).find_object(leads)
    except (Unreadable, Corrupt, MissingDebugInfo):
        return ""
    return f", but one of {entry.cache.name}" if entry is not None and entry.cache.addr != cache.addr else ""


def _foreign_buffer(case: Case) -> Cause | None:
    """A copy was stopped as it would leave its object: the buffer of the sk_buff is of a cache with smaller ones."""
    says = re.search(r"SLUB object '(\S+)' \(offset (\d+), size (\d+)\)", case.trip.text)
    if says is None:
        return None
    name, skb = says[1], case.skb
    evidence = [Evidence(f"the kernel's check of copies names an object of {name}", "klog")]
    if skb is not None:
        evidence.append(Evidence("the object that its buffer is", f"kslab {hex16(skb.members.head)}"))
    return Cause(
        "freelist",
        f"the allocator handed out an object of {name} where a larger one was asked for: a free list leads from one "
        "cache into another",
        CERTAIN,
        tuple(evidence),
        skb.members.head if skb is not None else None,
        "freelist",
    )
