"""Invariants of struct sk_buff_head and the sk_buffs that it links."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.errors import Why
from gdb_kdump.rules.findings import CORRUPT, Finding
from gdb_kdump.rules.records import Queue
from gdb_kdump.text import hex16


def link(queue: Queue) -> Iterator[Finding]:
    """Every node's prev is the node before it, and every next is memory.

    Mirrors include/linux/skbuff.h: __skb_insert, __skb_unlink.  Trap: the panic may have struck between the two
    stores of one of them, with the other CPU's queue; it then shows as one bad link, and rightly so.
    """
    for bad in queue.bad_links:
        message = f"prev of {hex16(bad.node)} does not lead back in the {queue.name} queue"
        yield Finding("queue.link", bad.node, "prev", CORRUPT, hex16(bad.expected), hex16(bad.found), message)
    if queue.hole is not None and queue.hole.why is Why.UNMAPPED:
        last = queue.nodes[-1] if queue.nodes else queue.head
        found, expected = hex16(queue.hole.addr), "a struct sk_buff * or the queue's head"
        message = f"next of {hex16(last)} leads out of memory in the {queue.name} queue"
        yield Finding("queue.link", last, "next", CORRUPT, expected, found, message)


def cycle(queue: Queue) -> Iterator[Finding]:
    """Following next comes back to the head, and to nothing else twice; include/linux/skbuff.h: skb_queue_walk."""
    if queue.cycle is not None:
        last = queue.nodes[-1] if queue.nodes else queue.head
        message = f"the {queue.name} queue runs in a circle of sk_buffs and never comes back to its head"
        yield Finding("queue.cycle", last, "next", CORRUPT, hex16(queue.head), hex16(queue.cycle), message)


def qlen(queue: Queue) -> Iterator[Finding]:
    """qlen is the number of sk_buffs; include/linux/skbuff.h: __skb_queue_tail.  Trap: only a whole walk can tell."""
    if queue.complete and queue.qlen != len(queue.nodes):
        message = f"the {queue.name} queue holds {len(queue.nodes)} sk_buffs, but qlen says {queue.qlen}"
        yield Finding("queue.qlen", queue.head, "qlen", CORRUPT, str(len(queue.nodes)), str(queue.qlen), message)


RULES = (link, cycle, qlen)
