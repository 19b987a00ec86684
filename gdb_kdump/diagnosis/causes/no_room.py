"""no-room: skb_put() or skb_push() was asked for more than the buffer has; net/core/skbuff.c: skb_panic.

Nothing need be corrupt then: the caller is wrong about a length.
"""

from __future__ import annotations

import re

from gdb_kdump.diagnosis.causes.answer import CERTAIN, Case, Cause, Evidence
from gdb_kdump.diagnosis.trip import Culprit, find_culprit

_SAYS = re.compile(
    r"skb_(over|under)_panic: text:(?:0x)?([0-9a-f]+) len:(\d+) put:(\d+) "
    r"head:(?:0x)?([0-9a-f]+) data:(?:0x)?([0-9a-f]+) tail:(?:0x)?([0-9a-f]+) end:(?:0x)?([0-9a-f]+) dev:(\S+)"
)


def no_room(case: Case) -> Cause | None:
    """The kernel's own line has it all, and names the caller."""
    says = _SAYS.search(case.trip.text)
    if says is None:
        return None
    over, asked, tail, end = says[1] == "over", int(says[4]), int(says[7], 16), int(says[8], 16)
    head, data = int(says[5], 16), int(says[6], 16)
    missing = tail - end if over else head - data
    what = "skb_put" if over else "skb_push"
    where = "tail room" if over else "headroom"
    culprit = find_culprit(case.trip.outward, f"it called {what}() for {asked} bytes")
    caller = _name(culprit) if culprit else "its caller"
    return Cause(
        "no-room",
        f"{caller} asked {what}() for {asked} bytes, {missing} more than the sk_buff has {where}",
        CERTAIN,
        (Evidence(says[0], "klog"),),
        case.skb.addr if case.skb is not None else None,
        "tail" if over else "data",
        culprit,
    )


def _name(culprit: Culprit) -> str:
    return f"{culprit.function} [{culprit.module}]"
