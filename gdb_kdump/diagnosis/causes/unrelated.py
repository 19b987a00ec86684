"""unrelated: none of the frames' objects is an sk_buff or belongs to one."""

from __future__ import annotations

from gdb_kdump.diagnosis.causes.answer import CERTAIN, Case, Cause, Evidence
from gdb_kdump.diagnosis.trip import find_culprit
from gdb_kdump.errors import Why


def unrelated(case: Case) -> Cause | None:
    """No sk_buff and no socket in the frames; the trip's own module is named all the same."""
    if case.skb is not None or case.sock is not None or not case.trip.outward:
        return None
    if any(unread.why is not Why.UNMAPPED for unread in case.unread):
        return None  # what the frames lead to is not in the dump: that is no absence
    return Cause(
        "unrelated",
        "none of the objects in these frames is an sk_buff, or belongs to one",
        CERTAIN,
        (Evidence("the trace", "kbt"),),
        culprit=find_culprit(case.trip.outward, "the CPU fell in it, or in what it had called"),
    )
