"""The functions that were hung into the network stack from outside of it, and which of them the packet had passed.

What the stack calls after the hooks of a place is in the frames only if they let the packet through: then all of that
place have had it.  net/ipv4/ip_input.c, ip_output.c, net/ipv6/ip6_input.c, ip6_output.c, net/core/dev.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gdb_kdump.diagnosis.trip import Trip
from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.net.hooks import path_hooks
from gdb_kdump.records.code import Hook, Place
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps

_RECEIVED = ("ip_rcv", "ip_list_rcv", "ipv6_rcv", "ipv6_list_rcv", "arp_rcv")
_SENT = ("dev_hard_start_xmit", "xmit_one", "sch_direct_xmit", "__dev_xmit_skb", "__dev_direct_xmit")
# For each place, what is called after its hooks: kind, where (its beginning) and functions, one of which must be there.
_AFTER = (
    ("netfilter", "IPv4 PRE_ROUTING", ("ip_rcv_finish", "ip_rcv_finish_core", "ip_list_rcv_finish", "ip_local_deliver",
                                       "ip_forward", "ip_local_deliver_finish", "ip_protocol_deliver_rcu")),
    ("netfilter", "IPv4 LOCAL_IN", ("ip_local_deliver_finish", "ip_protocol_deliver_rcu")),
    ("netfilter", "IPv4 FORWARD", ("ip_forward_finish",)),
    ("netfilter", "IPv4 POST_ROUTING", ("ip_finish_output", "__ip_finish_output", "ip_finish_output2")),
    ("netfilter", "IPv6 PRE_ROUTING", ("ip6_rcv_finish", "ip6_rcv_finish_core", "ip6_list_rcv_finish", "ip6_input",
                                       "ip6_forward", "ip6_input_finish", "ip6_protocol_deliver_rcu")),
    ("netfilter", "IPv6 LOCAL_IN", ("ip6_input_finish", "ip6_protocol_deliver_rcu")),
    ("netfilter", "IPv6 FORWARD", ("ip6_forward_finish",)),
    ("netfilter", "IPv6 POST_ROUTING", ("ip6_finish_output", "__ip6_finish_output", "ip6_finish_output2")),
    ("netfilter", "device ingress", _RECEIVED),
    ("netfilter", "device egress", _SENT),
    ("xdp", "", _RECEIVED),
    ("tcx", "ingress", _RECEIVED),
    ("tcx", "egress", _SENT),
    ("filter", "ingress", _RECEIVED),
    ("filter", "egress", _SENT),
    ("packet_type", "ALL", (*_RECEIVED, *_SENT)),
    ("rx_handler", "", _RECEIVED),
)  # fmt: skip
_LOCAL_OUT = {"IPv4": ("ip_output", "ip_mc_output"), "IPv6": ("ip6_output",)}
# A packet begins here: frames outward of it are of another one, which may have been received, or of nothing.
_BEGINS = frozenset(
    ("ip_local_out", "ip_send_skb", "__ip_queue_xmit", "ip_build_and_send_pkt", "ip6_local_out", "ip6_send_skb",
     "ip6_xmit", "net_rx_action", "__napi_poll", "process_backlog", "handle_softirqs", "__do_softirq", "do_softirq")
)  # fmt: skip
_KINDS = frozenset(kind for kind, _, _ in _AFTER)


@dataclass(frozen=True)
class PassedHook:
    """A function from outside of the stack; `passed` says that the frames prove that the packet went through it."""

    hook: Hook
    passed: bool

    @property
    def place(self) -> str:
        """Where it hangs, in the words of `knet --hooks`."""
        hook = self.hook
        return " ".join(filter(None, (hook.kind, hook.where, f"of {hook.device}" if hook.device else "")))


def passed_hooks(session: Session, trip: Trip, skb: int | None, gaps: Gaps) -> Iterator[PassedHook]:
    """The functions of modules and programs that a packet may pass, those that this one did pass first.

    `skb` is the address of its `struct sk_buff`, None where that is not known or not in the dump.
    """
    functions = _functions_of_this_packet(trip)
    net = _net_of(session, skb) if skb is not None else 0
    rows = [
        PassedHook(hook, _has_passed(hook, functions) and (not net or not hook.net or hook.net == net))
        for hook in path_hooks(session, gaps)
        if hook.kind in _KINDS and hook.code.place is not Place.KERNEL
    ]
    yield from sorted(rows, key=lambda row: not row.passed)


def _functions_of_this_packet(trip: Trip) -> set[str]:
    functions: set[str] = set()
    for frame in trip.outward:
        functions.add(frame.source.function or "")
        if frame.source.function in _BEGINS:
            break
    return functions


def _has_passed(hook: Hook, functions: set[str]) -> bool:
    family, _, place = hook.where.partition(" ")
    if hook.kind == "netfilter" and place == "LOCAL_OUT":
        return bool(functions & _BEGINS) and any(name in functions for name in _LOCAL_OUT.get(family, ()))
    return any(
        hook.kind == kind and hook.where.startswith(where) and not functions.isdisjoint(after)
        for kind, where, after in _AFTER
    )


def _net_of(session: Session, skb: int) -> int:
    """The `struct net *` of an sk_buff's device, 0 where that cannot be told."""
    try:
        device = session.pointer(skb, "sk_buff.dev")
        return session.pointer(device, "net_device.net") if device else 0
    except (Unreadable, MissingDebugInfo):
        return 0
