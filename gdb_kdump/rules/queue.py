"""Invariants of the queues that link sk_buffs: struct sk_buff_head, sk_backlog, struct rb_root, the accept queue."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.errors import Why
from gdb_kdump.records.queue import LostQueue, Queue
from gdb_kdump.rules.findings import CORRUPT, SUSPECT, Finding
from gdb_kdump.rules.tree import broken_tree
from gdb_kdump.text import hex16

# The C name of the pointer to the next element.
_NEXT = {"accept": "dl_next"}


def link(queue: Queue) -> Iterator[Finding]:
    """Every node's prev is the node before it, every next is memory, and the tail is the last node.

    Mirrors include/linux/skbuff.h: __skb_insert, __skb_unlink; include/net/sock.h: __sk_add_backlog;
    net/ipv4/inet_connection_sock.c: inet_csk_reqsk_queue_add.  Trap: the panic may have struck between the two stores
    of one of them, on the other CPU: it then shows as one bad link of a queue whose lock is held.
    """
    severity = SUSPECT if queue.is_busy and len(queue.bad_links) == 1 else CORRUPT
    for bad in queue.bad_links:
        end = "prev" if bad.member == "prev" else "next"
        message = f"{end} of {hex16(bad.node)} does not lead to its neighbour in the {queue.name} queue"
        message += "; a CPU held its lock, and may have been in the middle" if severity == SUSPECT else ""
        yield Finding("queue.link", bad.node, bad.member, severity, hex16(bad.expected), hex16(bad.found), message)
    if queue.hole is not None and queue.hole.why is Why.UNMAPPED and queue.kind != "rbtree":
        last = queue.nodes[-1] if queue.nodes else queue.head
        found, expected = hex16(queue.hole.addr), f"{_element(queue)} or {_end(queue)}"
        message = f"next of {hex16(last)} leads out of memory in the {queue.name} queue"
        yield Finding("queue.link", last, _next(queue), CORRUPT, expected, found, message)


def astray(queue: Queue) -> Iterator[Finding]:
    """A chain that ends in NULL leads to nothing but its own sk_buffs; include/net/sock.h: __sk_add_backlog.

    Trap: one that was freed, or is damaged itself, is still one: only what is none at all, or stands in a list, is not.
    """
    if queue.astray is None or queue.kind == "list":
        return
    last = queue.nodes[-1] if queue.nodes else queue.head
    message = f"what comes behind {hex16(last)} in the {queue.name} queue is no sk_buff, or one of another queue"
    expected, found = f"{_element(queue)} or {_end(queue)}", hex16(queue.astray)
    yield Finding("queue.link", last, _next(queue), CORRUPT, expected, found, message)


def tail(queue: Queue) -> Iterator[Finding]:
    """What names the last element names it.

    Mirrors include/net/sock.h: __sk_add_backlog; net/ipv4/inet_connection_sock.c: inet_csk_reqsk_queue_add;
    net/ipv4/tcp_input.c: tcp_data_queue_ofo.  Traps: ooo_last_skb stays as it was when the tree becomes empty, and
    a walk that is cut short does not know the last element.
    """
    if queue.tail is None or not queue.complete or queue.bad_links:
        return
    member, found = queue.tail
    expected = queue.nodes[-1] if queue.nodes else 0
    if found != expected and (queue.nodes or queue.kind != "rbtree"):
        message = f"the {queue.name} queue ends with {hex16(expected)}, but {member} says {hex16(found)}"
        yield Finding("queue.link", queue.head, member, CORRUPT, hex16(expected), hex16(found), message)


def tree(queue: Queue) -> Iterator[Finding]:
    """A queue that is a red-black tree obeys the laws of one; see gdb_kdump.rules.tree."""
    if queue.kind == "rbtree":
        yield from broken_tree(queue)


def cycle(queue: Queue) -> Iterator[Finding]:
    """Following next comes back to the head, and to nothing else twice; include/linux/skbuff.h: skb_queue_walk."""
    if queue.cycle is not None:
        last = queue.nodes[-1] if queue.nodes else queue.head
        message = f"the {queue.name} queue runs in a circle and never comes to {_end(queue)}"
        expected = hex16(queue.head) if queue.kind == "list" else "NULL"
        yield Finding("queue.cycle", last, _next(queue), CORRUPT, expected, hex16(queue.cycle), message)


def qlen(queue: Queue) -> Iterator[Finding]:
    """qlen is the number of elements; include/linux/skbuff.h: __skb_queue_tail; include/net/sock.h: sk_acceptq_added.

    Traps: only a whole walk along sound links can tell.  sk_backlog.len is in bytes of truesize, and while
    __release_sock works it still has those that were taken off, often all of them, so too much is at most suspect; too
    little is the rule where TCP coalesces sk_buffs without adding to it, but nothing at all is wrong for certain.
    """
    if not queue.complete or queue.bad_links or queue.kind == "rbtree":
        return
    if queue.kind == "backlog":
        if queue.is_busy and not queue.nodes and queue.qlen >= 0:
            return
        if queue.qlen > queue.truesize or (queue.nodes and queue.qlen <= 0):
            severity = CORRUPT if queue.qlen <= 0 else SUSPECT
            message = f"the backlog holds {queue.truesize} bytes of truesize, but its len says {queue.qlen}" + (
                "" if severity == CORRUPT else "; right only while its owner is at work on it (__release_sock)"
            )
            yield Finding("queue.qlen", queue.head, "len", severity, str(queue.truesize), str(queue.qlen), message)
        return
    held = len(queue.nodes) + queue.elsewhere
    if queue.qlen != held:
        member = "sk_ack_backlog" if queue.kind == "accept" else "qlen"
        severity = SUSPECT if queue.is_busy and abs(queue.qlen - held) == 1 else CORRUPT
        message = f"the {queue.name} queue holds {held} elements, but {member} says {queue.qlen}" + (
            "; a CPU held its lock, and may have been between the two" if severity == SUSPECT else ""
        )
        at = queue.sock if queue.kind == "accept" else queue.head
        yield Finding("queue.qlen", at, member, severity, str(held), str(queue.qlen), message)


def on_two_queues(skb: int, other: str, queue: Queue) -> Finding:
    """An sk_buff has one pointer to the next, so it cannot be on two queues; include/linux/skbuff.h: __skb_insert."""
    message = f"it is on {other} and on {queue.name}: whoever frees it first leaves the other a dangling pointer"
    return Finding("queue.link", skb, "next", CORRUPT, "one queue", "two queues", message)


def lost(queue: LostQueue) -> Iterator[Finding]:
    """The head of a list of sk_buffs is memory that somebody has, and is a head.

    Mirrors include/linux/skbuff.h: __skb_insert: the first one's prev and the last one's next are the head, and it
    leads to both.  Traps: drivers and protocols have queues of their own, on stacks and in objects of their own: these
    do lead back.  Who frees a socket, or whatever else has a queue, purges it first (net/core/sock.c: sk_destruct).
    """
    if queue.leads_back and not queue.is_free:
        return
    count = f"{len(queue.skbs)} sk_buff" + ("s hang" if len(queue.skbs) != 1 else " hangs")
    why = "which is free" if queue.is_free else "which does not lead back to them"
    message = f"{count} in a queue whose head would be in {queue.place}, {why}: what had the queue is gone"
    expected = "the head of a queue"
    yield Finding("queue.head", queue.skbs[0], "prev", CORRUPT, expected, hex16(queue.head), message)


def _next(queue: Queue) -> str:
    return _NEXT.get(queue.kind, "next")


def _element(queue: Queue) -> str:
    return "a struct request_sock *" if queue.kind == "accept" else "a struct sk_buff *"


def _end(queue: Queue) -> str:
    return "the queue's head" if queue.kind == "list" else "NULL"


RULES = (link, astray, tail, tree, cycle, qlen)
