"""shared: somebody else holds the sk_buff where the kernel demands that nobody does; net/core/skbuff.c.

pskb_expand_head: BUG_ON(skb_shared(skb)).  An atomic count of more than one is the proof.
"""

from __future__ import annotations

from gdb_kdump.diagnosis.causes.answer import CERTAIN, Case, Cause, Evidence
from gdb_kdump.diagnosis.trip import find_culprit
from gdb_kdump.text import hex16

_EXCLUSIVE = ("pskb_expand_head", "__skb_pad", "skb_share_check", "skb_unshare")


def shared(case: Case) -> Cause | None:
    """A BUG or WARN in a function that wants the sk_buff for itself, and more than one user."""
    trip, skb = case.trip, case.skb
    function = next((frame.source.function for frame in trip.outward[:4] if frame.source.function in _EXCLUSIVE), None)
    if function is None or not trip.is_asserted or skb is None or skb.members.users < 2:
        return None
    return Cause(
        "shared",
        f"{function}() demands that nobody else holds sk_buff {hex16(skb.addr)}, but it has {skb.members.users} users",
        CERTAIN,
        (
            Evidence(f"users is {skb.members.users}", f"kstruct sk_buff.users {hex16(skb.addr)}"),
            Evidence(f"the kernel checks it at {trip.place}", "klog"),
        ),
        skb.addr,
        "users",
        find_culprit(trip.outward, "it had the sk_buff changed while another reference was held"),
    )
