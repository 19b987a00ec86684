"""lengths: a length or offset that breaks what the kernel asserts: BUG_ON, WARN_ON over len, data_len, csum_start.

include/linux/skbuff.h: __skb_pull; net/core/dev.c: skb_checksum_help.
"""

from __future__ import annotations

import re

from gdb_kdump.diagnosis.causes.answer import CERTAIN, Case, Cause, Evidence
from gdb_kdump.diagnosis.trip import Culprit, find_culprit
from gdb_kdump.text import hex16

_CHECKSUM = re.compile(r"offset \((\d+)\) >= skb_headlen\(\) \((\d+)\)")
_RULES = ("skb.len", "skb.order", "skb.headers", "shinfo.gso")
# Where a packet changes hands: what gave it away may have done nothing but that.
_HANDED_OVER = ("netif_receive_skb", "__netif_receive_skb", "__netif_receive_skb_core", "__netif_receive_skb_one_core",
                "netif_receive_skb_list_internal", "napi_gro_receive", "__dev_queue_xmit", "dev_queue_xmit",
                "process_backlog", "sch_direct_xmit")  # fmt: skip


def lengths(case: Case) -> Cause | None:
    """A check of the kernel has failed, and the relation that it asserts does not hold."""
    trip, skb = case.trip, case.skb
    if not trip.is_asserted or skb is None:
        return None
    evidence = Evidence(f"the kernel checks it at {trip.place}", "klog")
    checksum = _CHECKSUM.search(trip.text)
    if checksum is not None:
        message = (
            f"the checksum of sk_buff {hex16(skb.addr)} is to start at offset {checksum[1]}, behind its linear part of "
            f"{checksum[2]} bytes"
        )
        shown = Evidence("csum_start", f"kstruct sk_buff.csum_start,csum_offset,len,data_len {hex16(skb.addr)}")
        culprit = find_culprit(trip.outward, "it had the checksum computed")
        return Cause("lengths", message, CERTAIN, (shown, evidence), skb.addr, "csum_start", culprit)
    finding = next((found for rule in _RULES if (found := case.found(rule)) is not None), None)
    if finding is None:
        return None
    shown = Evidence(finding.message, f"kstruct sk_buff.len,data_len,head,data,tail,end {hex16(skb.addr)}")
    message = f"{finding.member} of sk_buff {hex16(skb.addr)} breaks what {trip.place} asserts: {finding.message}"
    return Cause("lengths", message, CERTAIN, (shown, evidence), skb.addr, finding.member, _before_handing_over(case))


def _before_handing_over(case: Case) -> Culprit | None:
    """The first module function outward, unless it had given the packet away before."""
    for number, frame in enumerate(case.trip.outward):
        if frame.source.function in _HANDED_OVER:
            return None
        if frame.source.module is not None:
            return find_culprit(case.trip.outward[number:], "it had the packet when the check failed")
    return None
