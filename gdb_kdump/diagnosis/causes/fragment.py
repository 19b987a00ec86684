"""fragment, bit-flip: a fragment whose page pointer leads to no page; net/core/skbuff.c: skb_release_data.

Those that the same loop has released already are not guilty: the first wrong pointer is told, and no missing reference.
A pointer one bit away from that of a page in use is a bit that has flipped.
"""

from __future__ import annotations

from gdb_kdump.diagnosis.causes.answer import CERTAIN, LIKELY, Case, Cause, Evidence
from gdb_kdump.diagnosis.trip import find_culprit
from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.mm.pages import Pages
from gdb_kdump.records.skb import Frag, SharedInfo
from gdb_kdump.text import hex16

_READS_IT = ("skb_release_data", "__skb_frag_unref", "skb_copy_bits", "skb_checksum", "__skb_datagram_iter",
             "skb_copy_datagram_iter", "napi_frag_unref", "skb_page_unref")  # fmt: skip


def fragment(case: Case) -> Cause | None:
    """The trip is in what follows page pointers, and one of them is none."""
    skb = case.skb
    if skb is None or not isinstance(skb.shinfo, SharedInfo) or not case.trip.passes(*_READS_IT):
        return None
    try:
        pages = case.session.once(Pages)
    except (MissingDebugInfo, Unreadable):
        return None
    for number, frag in enumerate(skb.shinfo.frags):
        if frag.page & 1 or (frag.page and pages.is_page(frag.page)):  # a netmem is tagged
            continue
        member = f"frags[{number}]"
        shown = Evidence(f"the page of {member} is {hex16(frag.page)}", f"shinfo {hex16(skb.addr)}")
        bit = _flipped(pages, frag)
        if bit is not None:
            right = frag.page ^ (1 << bit)
            return Cause(
                "bit-flip",
                f"bit {bit} of the page pointer of {member} of sk_buff {hex16(skb.addr)} has flipped: but for it, "
                f"{hex16(frag.page)} is that of a page in use, {hex16(right)}",
                LIKELY,
                (shown, Evidence("the page that is one bit away", f"kslab {hex16(pages.address_of(right))}")),
                skb.addr,
                member,
            )
        what = "NULL" if not frag.page else f"{hex16(frag.page)}, which is no struct page"
        return Cause(
            "fragment",
            f"the page of {member} of sk_buff {hex16(skb.addr)} is {what}",
            CERTAIN,
            (shown, Evidence("what fell over it", "kbt")),
            skb.addr,
            member,
            find_culprit(case.trip.outward, "the packet came through it"),
        )
    return None


def _flipped(pages: Pages, frag: Frag) -> int | None:
    """The one bit that makes a page in use of a pointer, None where there is none, or several."""
    bits = []
    for bit in range(64):
        page = frag.page ^ (1 << bit)
        if not frag.page or not pages.is_page(page):
            continue
        try:
            found = pages.find(pages.address_of(page))
        except Unreadable:
            continue
        if found is not None and found.refcount > 0 and not found.is_slab:
            bits.append(bit)
    return bits[0] if len(bits) == 1 else None
