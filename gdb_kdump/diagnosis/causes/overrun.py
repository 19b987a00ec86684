"""overrun-self, -neighbour, -unknown: the shared info holds foreign bytes, and who is known to have written them.

That records run on across `end` proves one writer, not which: only where they do not begin below the payload is it the
payload's own.  Looks like it and is not: a single wrong fragment (fragment).
"""

from __future__ import annotations

from gdb_kdump.diagnosis.causes.answer import CERTAIN, LIKELY, POSSIBLE, Case, Cause, Evidence
from gdb_kdump.diagnosis.causes.handing_over import received_from
from gdb_kdump.diagnosis.causes.holders import module_with_pointer_to
from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.mm.allocator import allocator
from gdb_kdump.records.skb import Skb
from gdb_kdump.records.slab import SlabObject
from gdb_kdump.text import escape, hex16

_READS_IT = ("skb_release_data", "skb_zcopy_clear", "__skb_frag_unref", "kfree_skb_list_reason", "kfree_skb_list",
             "skb_release_all", "skb_clone", "pskb_expand_head", "skb_copy_bits", "__pskb_pull_tail",
             "skb_copy_ubufs", "skb_orphan_frags", "skb_orphan_frags_rx", "skb_zcopy", "skb_tx_error", "skb_segment",
             "skb_checksum", "__skb_checksum", "__skb_datagram_iter", "skb_to_sgvec", "__skb_to_sgvec", "skb_shift",
             "skb_try_coalesce", "skb_gro_receive", "skb_splice_bits", "skb_copy_expand", "skb_split")  # fmt: skip
_WHOLE = ("shinfo.nr_frags", "shinfo.dataref", "shinfo.gso", "shinfo.tx_flags", "shinfo.overrun")
_BELOW = 512  # bytes before the buffer that are looked at
_EXTENT = 64  # bytes that are told of what is not known
_LEAST = 12  # bytes that must go on, of those that are no zeros


def overrun(case: Case) -> Cause | None:
    """The trip is in what reads the shared info, and that is damaged as a whole."""
    skb = case.skb
    if skb is None or not case.trip.passes(*_READS_IT) or not any(case.found(rule) for rule in _WHOLE):
        return None
    found = case.attribution
    command = f"shinfo {hex16(skb.addr)}"
    if found is None or found.kind != "payload":
        return _unknown(case, skb)
    begins = _begins(case, skb, found.period)
    extent = f"{found.length} bytes from {hex16(found.first)} on"
    if begins is None:
        shown = Evidence(f"{found.source} ({found.certainty})", command)
        message = f"the shared info of sk_buff {hex16(skb.addr)} is corrupt: {found.source}, {extent}"
        return Cause("overrun-self", message, CERTAIN, (shown,), skb.addr, "end", received_from(case))
    where, entry = begins
    owner = "" if entry is None else f", in the object {hex16(entry.start)} of {entry.cache.name} ({entry.state})"
    evidence = [
        Evidence(f"records of {found.period} bytes run on across end", command),
        Evidence(f"they are {where}", f"x/32xg {hex16((skb.members.head - 64) & -16)}"),
    ]
    if entry is not None:
        end = entry.start + entry.cache.object_size
        module = module_with_pointer_to(case.session, entry.start, entry.cache.object_size)
        if module is not None:
            owner += f", to which module {escape(module)} has a pointer"
            text = f"of all modules {escape(module)} alone has a pointer to that object"
            evidence.append(Evidence(text, f"ksearch -r {hex16(entry.start)}:{hex16(end)}"))
    message = (
        f"the shared info of sk_buff {hex16(skb.addr)} was overwritten, {extent}, by what was written from below its "
        f"buffer on: the records of {found.period} bytes are {where}, too{owner}"
    )
    kind = "overrun-neighbour" if entry is not None else "overrun-foreign"
    return Cause(kind, message, LIKELY, tuple(evidence), skb.addr, "end")


def _begins(case: Case, skb: Skb, period: int) -> tuple[str, SlabObject | None] | None:
    """Where records stand below the payload, and in which object; None where they begin with it."""
    head, data = skb.members.head, skb.members.data
    try:
        below = case.session.memory.read(head - _BELOW, _BELOW)
    except Unreadable:
        below = b""
    buffer = skb.buffer()
    room = buffer[: max(0, data - head)]
    if below and _goes_on(below + buffer[: 2 * period], _BELOW, period, backward=True):
        return "below its buffer", _owner(case, head - 1)
    if len(room) >= _LEAST and _goes_on(room + buffer[len(room) : len(room) + 2 * period], len(room), period, True):
        return "in its headroom", None
    return None


def _goes_on(text: bytes, size: int, period: int, backward: bool) -> bool:
    """Whether the last bytes of the first `size` are those of records that go on after them."""
    hits = misses = 0
    for at in range(max(0, size - 4 * period), size):
        if at + period >= len(text) or not text[at]:
            continue
        if text[at] == text[at + period]:
            hits += 1
        else:
            misses += 1
    return hits >= _LEAST and hits > 2 * misses


def _owner(case: Case, addr: int) -> SlabObject | None:
    try:
        return allocator(case.session).find_object(addr)
    except (Unreadable, Corrupt, MissingDebugInfo):
        return None


def _unknown(case: Case, skb: Skb) -> Cause | None:
    payload, damaged = skb.payload_and_shinfo()
    if not damaged:
        return None
    foreign = damaged[: max(1, min(_EXTENT, damaged.find(bytes(4)) % (len(damaged) + 1)))]
    shown = foreign[:16].hex(" ")
    last = payload[-8:].hex(" ")
    found = case.attribution
    source = f": {found.source}" if found is not None else ""
    more = " ..." if len(foreign) > 16 else ""
    message = (
        f"the shared info of sk_buff {hex16(skb.addr)}, at {hex16(skb.end)}, holds at least {len(foreign)} foreign "
        f"bytes from its first one on ({shown}{more}){source}; no rule here knows who wrote them"
    )
    evidence = (
        Evidence(f"before end stand {last}, from it on {shown}", f"x/8xb {hex16(skb.end)}"),
        Evidence("the members that do not hold", f"shinfo {hex16(skb.addr)}"),
    )
    return Cause("overrun-unknown", message, POSSIBLE, evidence, skb.addr, "end")
