"""double-free: what is freed is free already; mm/slub.c: set_freepointer's BUG_ON(object == fp), kfree's checks."""

from __future__ import annotations

from gdb_kdump.diagnosis.causes.answer import CERTAIN, Case, Cause, Evidence
from gdb_kdump.diagnosis.trip import find_culprit
from gdb_kdump.text import hex16

_FREES = ("kmem_cache_free", "kfree", "__kmem_cache_free", "kfree_skbmem", "kfree_skb_reason", "kfree_skb",
          "skb_release_data", "sk_skb_reason_drop", "consume_skb", "kfree_skb_partial", "slab_free")  # fmt: skip


def double_free(case: Case) -> Cause | None:
    """The trip is the allocator's own check while something is freed, and the sk_buff is on a free list."""
    trip, skb = case.trip, case.skb
    freed = case.found("skb.freed")
    if freed is None or skb is None or not trip.passes(*_FREES):
        return None
    if not (trip.place.startswith("mm/slub.c") or "refcount_t" in trip.text):
        return None
    return Cause(
        "double-free",
        f"sk_buff {hex16(skb.addr)} was freed a second time: {freed.message}",
        CERTAIN,
        (
            Evidence(freed.message, f"kslab {hex16(skb.addr)}"),
            Evidence(f"the allocator's check at {trip.place}", "klog"),
        ),
        skb.addr,
        "",
        find_culprit(trip.outward, "it freed the sk_buff, which had been freed before"),
    )
