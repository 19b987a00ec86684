"""The laws of a red-black tree of sk_buffs; lib/rbtree.c, net/ipv4/tcp_output.c: tcp_rbtree_insert."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from gdb_kdump.errors import Why
from gdb_kdump.records.queue import Queue, TreeNode
from gdb_kdump.rules.findings import CORRUPT, SUSPECT, Finding
from gdb_kdump.text import hex16

_COLOUR = "rbnode.__rb_parent_color"
# Trying every node takes the square of their number.
_MAX_TRIED = 400
_ROTATED = 3  # nodes whose pointers a rotation changes


def broken_tree(queue: Queue) -> Iterator[Finding]:
    """Pointers lead to nodes and back, colours balance, and TCP's sequence numbers ascend: each only if the last holds.

    Traps: where a page is missing from the dump, colours cannot be counted.  The panic may have struck in the middle
    of lib/rbtree.c: __rb_insert or ____rb_erase_color on another CPU, which holds the lock: few nodes are wrong then,
    and no pointer leads out of memory.
    """
    found = list(_pointers(queue))
    if not found and not queue.dead_ends:
        found = list(_colours(queue)) or list(_order(queue))
    is_wild = any(dead.why is Why.UNMAPPED for dead in queue.dead_ends)
    if queue.is_busy and len(found) <= _ROTATED and not is_wild:
        message = "; a CPU held its lock, and may have been in the middle"
        found = [replace(finding, severity=SUSPECT, message=finding.message + message) for finding in found]
    yield from found


def _pointers(queue: Queue) -> Iterator[Finding]:
    for dead in queue.dead_ends:
        if dead.why in (None, Why.UNMAPPED, Why.CORRUPT):
            where = "a node that was met before" if dead.why is None else "something that is no node of this tree"
            member = f"rbnode.{dead.member}" if dead.node else dead.member
            message = f"{dead.member} of {hex16(dead.node or queue.head)} leads to {where} in the {queue.name} queue"
            at, found = dead.node or queue.head, hex16(dead.found)
            yield Finding("queue.link", at, member, CORRUPT, "a node below it, or NULL", found, message)
    for node in queue.tree:
        if node.parent != node.above:
            message = f"{hex16(node.addr)} does not name the node above it as its parent in the {queue.name} queue"
            expected, found = hex16(node.above), hex16(node.parent)
            yield Finding("queue.link", node.addr, _COLOUR, CORRUPT, expected, found, message)


def _colours(queue: Queue) -> Iterator[Finding]:
    """The root is black, no red node has a red child, and every path down passes as many black nodes."""
    nodes = {node.addr: node for node in queue.tree}
    black = {node.addr: node.is_black for node in queue.tree}
    wrong = _unbalanced(queue, nodes, black)
    if wrong is None:
        return
    culprit, certain = wrong, False
    if len(black) <= _MAX_TRIED:
        # One flipped colour unbalances the tree far above it: the node whose other colour heals all is the one.
        for addr in black:
            if _unbalanced(queue, nodes, {**black, addr: not black[addr]}) is None:
                culprit, certain = addr, True
                break
    colour = "black" if black[culprit] else "red"
    expected = ("red" if black[culprit] else "black") if certain else "balanced colours"
    message = f"{hex16(culprit)} is {colour}, which breaks the balance of the {queue.name} queue's tree"
    yield Finding("queue.link", culprit, _COLOUR, CORRUPT, expected, colour, message)


def _unbalanced(queue: Queue, nodes: Mapping[int, TreeNode], black: Mapping[int, bool]) -> int | None:
    """A node at which the colours do not balance, or None.  Children stand before their parents in `heights`."""
    heights: dict[int, int] = {0: 1}
    below: dict[int, list[int]] = {addr: [] for addr in nodes}
    root = 0
    for node in queue.tree:
        if node.above:
            below[node.above].append(node.addr)
        else:
            root = node.addr
    order, pending = [], [root] if root else []
    while pending:
        addr = pending.pop()
        order.append(addr)
        pending += below[addr]
    if root and not black[root]:
        return root
    for addr in reversed(order):
        node, children = nodes[addr], below[addr]
        sides = [heights[child] for child in children] + [1] * (bool(not node.left) + bool(not node.right))
        if not black[addr] and any(not black[child] for child in children):
            return next(child for child in children if not black[child])
        if len(set(sides)) > 1:
            return addr
        heights[addr] = sides[0] + black[addr]
    return None


def _order(queue: Queue) -> Iterator[Finding]:
    """TCP keeps its trees in the order of sequence numbers, which are compared modulo 2**32."""
    numbers = [(node.addr, node.seq) for node in queue.tree if node.seq is not None]
    for at in range(1, len(numbers)):
        (_, before), (addr, seq) = numbers[at - 1], numbers[at]
        if not _is_before(seq, before):
            continue
        # Either could be the wrong one: it is the earlier one where only without that all is in order.
        without_earlier = at < 2 or not _is_before(seq, numbers[at - 2][1])
        without_later = at + 1 == len(numbers) or not _is_before(numbers[at + 1][1], before)
        if without_earlier and not without_later:
            addr, seq = numbers[at - 1]
        message = f"the sequence number of {hex16(addr)} is out of order in the {queue.name} queue"
        yield Finding("queue.link", addr, "cb", CORRUPT, "ascending sequence numbers", f"{seq:#x}", message)
        return


def _is_before(seq: int, other: int) -> bool:
    """include/net/tcp.h: before."""
    return (seq - other) & 0xFFFFFFFF > 1 << 31
