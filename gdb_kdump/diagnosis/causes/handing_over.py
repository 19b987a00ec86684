"""Where a packet changes hands: what gave it away may have done nothing but that."""

from __future__ import annotations

from gdb_kdump.diagnosis.causes.answer import Case
from gdb_kdump.diagnosis.trip import Culprit, find_culprit

_HANDED_OVER = ("netif_receive_skb", "__netif_receive_skb", "__netif_receive_skb_core", "__netif_receive_skb_one_core",
                "netif_receive_skb_list_internal", "napi_gro_receive", "__dev_queue_xmit", "dev_queue_xmit",
                "process_backlog", "sch_direct_xmit")  # fmt: skip
# Where a received packet is before any hook of netfilter; net/core/dev.c, net/ipv4/ip_input.c, net/ipv6/ip6_input.c.
_FIRST_READERS = ("__pskb_pull_tail", "pskb_may_pull_reason", "pskb_may_pull", "__skb_pull", "skb_pull", "ip_rcv_core",
                  "ip_rcv", "ip6_rcv_core", "ipv6_rcv", "skb_copy_ubufs", "skb_orphan_frags", "skb_orphan_frags_rx",
                  "skb_zcopy_clear", "skb_release_data", "skb_release_all", "kfree_skb_reason", "kfree_skb",
                  "__kfree_skb", "sk_skb_reason_drop", "skb_frag_unref", "__skb_frag_unref",
                  "skb_frag_page")  # fmt: skip
_RECEIVED = ("netif_receive_skb", "__netif_receive_skb", "__netif_receive_skb_core", "__netif_receive_skb_one_core",
             "netif_receive_skb_internal", "napi_gro_receive", "deliver_skb")  # fmt: skip


def who_had_it(case: Case, why: str) -> Culprit | None:
    """The first module function outward, unless it had given the packet away before, to more than the first readers."""
    for number, frame in enumerate(case.trip.outward):
        if frame.source.function in _HANDED_OVER:
            return received_from(case)
        if frame.source.module is not None:
            return find_culprit(case.trip.outward[number:], why)
    return None


def received_from(case: Case) -> Culprit | None:
    """The module function that a packet was received through, where no hook of netfilter can have seen it since."""
    names = [frame.source.function or "" for frame in case.trip.outward]
    at = next((number for number, name in enumerate(names) if name not in _FIRST_READERS), len(names))
    while at < len(names) and names[at] in _RECEIVED:
        at += 1
    if at == len(names) or names[at - 1] not in _RECEIVED or case.trip.outward[at].source.module is None:
        return None
    why = "the packet was received through it, and no hook of netfilter has seen it since"
    return find_culprit(case.trip.outward[at:], why)
