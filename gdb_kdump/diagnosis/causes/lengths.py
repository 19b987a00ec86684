"""lengths: a length or offset that breaks what the kernel asserts: BUG_ON, WARN_ON over len, data_len, csum_start.

include/linux/skbuff.h: __skb_pull; net/core/dev.c: skb_checksum_help.
"""

from __future__ import annotations

import re

from gdb_kdump.diagnosis.causes.answer import CERTAIN, Case, Cause, Evidence
from gdb_kdump.diagnosis.causes.handing_over import who_had_it
from gdb_kdump.diagnosis.trip import Culprit, find_culprit
from gdb_kdump.errors import Unreadable
from gdb_kdump.kernel.net.skbuff import Skbs
from gdb_kdump.records.code import Place
from gdb_kdump.records.skb import SharedInfo, Skb
from gdb_kdump.text import hex16

_CHECKSUM = re.compile(r"offset \((\d+)\) >= skb_headlen\(\) \((\d+)\)")
_RULES = ("skb.len", "skb.order", "skb.headers", "shinfo.gso")
# ip_rcv_core() comes before these; include/linux/netfilter.h: the hooks between.
_TAKEN = ("ip_rcv_finish", "ip_local_deliver", "ip_local_deliver_finish", "ip_protocol_deliver_rcu", "ip_forward")
_PLACES = ("IPv4 PRE_ROUTING", "IPv4 LOCAL_IN", "IPv4 FORWARD")
_IPV4_HEADER = 20  # bytes, without options


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
    segments = _segments(case, evidence)
    if segments is not None:
        return segments
    finding = next((found for rule in _RULES if (found := case.found(rule)) is not None), None)
    if finding is None:
        return None
    shown = Evidence(finding.message, f"kstruct sk_buff.len,data_len,head,data,tail,end {hex16(skb.addr)}")
    message = f"{finding.member} of sk_buff {hex16(skb.addr)} breaks what {trip.place} asserts: {finding.message}"
    more: tuple[Evidence, ...] = ()
    culprit = who_had_it(case, "it had the packet when the check failed")
    if culprit is None:
        more, culprit = _changed_on_its_way(case, skb)
    return Cause("lengths", message, CERTAIN, (shown, evidence, *more), skb.addr, finding.member, culprit)


def _segments(case: Case, evidence: Evidence) -> Cause | None:
    """net/core/skbuff.c: skb_segment cuts where the sk_buffs of frag_list end, so all but the last are of gso_size."""
    if not case.trip.passes("skb_segment"):
        return None
    heads = [
        pointer.value for pointer in case.pointers if pointer.type == "sk_buff" and pointer.function == "skb_segment"
    ]
    for head in dict.fromkeys(heads):
        try:
            skb = case.session.once(Skbs).read(head)
            shinfo = skb.shinfo
            parts = shinfo.chain.skbs[:-1] if isinstance(shinfo, SharedInfo) else ()
            sizes = [(part, case.session.once(Skbs).read(part).members.len) for part in parts]
        except Unreadable:
            continue
        wrong = next(
            ((part, size) for part, size in sizes if isinstance(shinfo, SharedInfo) and size != shinfo.gso_size), None
        )
        if wrong is None or not isinstance(shinfo, SharedInfo):
            continue
        what = f"gso_size is {shinfo.gso_size}, but sk_buff {hex16(wrong[0])} of its frag_list has {wrong[1]} bytes"
        shown = Evidence(what, f"shinfo {hex16(head)}")
        part = Evidence("that sk_buff", f"kstruct sk_buff.len,data_len {hex16(wrong[0])}")
        message = f"sk_buff {hex16(head)} cannot be cut into segments as {case.trip.place} wants it: {what}"
        culprit = find_culprit(case.trip.outward, "it had the packet segmented")
        return Cause("lengths", message, CERTAIN, (shown, part, evidence), head, "gso_size", culprit)
    return None


def _changed_on_its_way(case: Case, skb: Skb) -> tuple[tuple[Evidence, ...], Culprit | None]:
    """Whether len was changed since the stack has taken the packet, and the one hook that may have; ip_rcv_core.

    That trims an IPv4 packet to what its header says.  Of the hooks that it passed since, one of a module out of the
    kernel's tree is named where it is the only such one, or the only one at all; of several nobody can tell.
    """
    members = skb.members
    if not case.trip.passes(*_TAKEN) or members.network_header < 0:
        return (), None
    at = members.head + members.network_header
    try:
        header = case.session.memory.read(at, _IPV4_HEADER)
    except Unreadable:
        return (), None
    total, size = int.from_bytes(header[2:4], "big"), 4 * (header[0] & 15)
    if header[0] >> 4 != 4 or members.len in (total, total - size):
        return (), None
    shown = Evidence(
        f"its IP header says {total} bytes, and ip_rcv_core() trims a packet to that", f"x/2xb {hex16(at + 2)}"
    )
    passed = [row for row in case.hooks if row.passed and row.hook.where in _PLACES]
    foreign = [row for row in passed if "O" in row.hook.code.taint or row.hook.code.place is Place.NOWHERE]
    code = (foreign if len(foreign) == 1 else passed)[0].hook.code if 1 in (len(foreign), len(passed)) else None
    names = ", ".join(f"{row.hook.code.symbol or hex16(row.hook.code.addr)} ({row.place})" for row in passed)
    facts = (shown, Evidence(f"since then it has passed {names or 'no hook of a module'}", "knet --hooks"))
    if code is None or not code.module:
        return facts, None
    kind = "out of the kernel's tree " if foreign else ""
    why = (
        f"of the hooks {kind}that the packet passed since ip_rcv_core() trimmed it to {total} bytes it is the only one"
    )
    return facts, Culprit(code.symbol or hex16(code.addr), code.module, None, why)
