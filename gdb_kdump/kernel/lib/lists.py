"""The kernel's lists, walked with distrust: no node twice, and never without end."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump import walks
from gdb_kdump.errors import Corrupt
from gdb_kdump.session import Session


def list_for_each(session: Session, head: int, next_offset: int = 0) -> Iterator[int]:
    """Yield the nodes of a `struct list_head` from `head` on, without it; include/linux/list.h: list_for_each.

    `next_offset` is the byte offset of `next` in a node; that of `prev` follows the list backward.  Raises Unreadable,
    or Corrupt when the list enters itself or has more nodes than the limit allows.
    Traps: `prev` is not compared.  A node whose `prev` is damaged, or that a CPU was just linking in, is on the list
    all the same, and so are those after it.
    """
    memory, last, node = session.memory, head, session.memory.ptr(head + next_offset)
    met: set[int] = set()
    while node != head:
        if node in met:
            raise Corrupt(node, "the list runs in a circle that its head is not part of", last)
        if len(met) >= walks.max_elements():
            raise Corrupt(node, walks.too_many("the list"), last)
        met.add(node)
        yield node
        last, node = node, memory.ptr(node + next_offset)
