"""use-after-free of memory that is mapped page by page: vmalloc, ioremap, a module's; mm/vmalloc.c.

Nothing tells an address that was given back from one that never was any, so other causes are asked before.
"""

from __future__ import annotations

from gdb_kdump.diagnosis.causes.answer import LIKELY, Case, Cause, Evidence
from gdb_kdump.diagnosis.trip import find_culprit
from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.mm.vmap_areas import VmapAreas
from gdb_kdump.text import hex16, is_kernel_address
from gdb_kdump.walks import Gaps


def vmalloc_freed(case: Case) -> Cause | None:
    """Nothing is mapped at an address among the areas of vmalloc."""
    addr = case.trip.address
    if addr is None or not is_kernel_address(addr) or "page fault" not in case.trip.text:
        return None
    try:
        areas = case.session.once(VmapAreas)
        every = areas.all(Gaps())
        if not every or not every[0].start <= addr < every[-1].end or areas.find(addr, Gaps()) is not None:
            return None
    except (Unreadable, MissingDebugInfo, Corrupt):
        return None
    message = (
        f"nothing is mapped at {hex16(addr)}, between the areas of vmalloc: memory of vmalloc, ioremap or a module "
        "that was given back, or a wild pointer"
    )
    culprit = find_culprit(case.trip.outward, "it, or what it called, used that address")
    evidence = (
        Evidence(f"the CPU could not reach {hex16(addr)}", "klog"),
        Evidence("what is there now", f"kwhat {hex16(addr)}"),
    )
    return Cause("use-after-free", message, LIKELY, evidence, addr, "", culprit)
