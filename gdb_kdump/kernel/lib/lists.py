"""The kernel's lists, walked with distrust: both links compared, no node visited twice, never without end."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump import walks
from gdb_kdump.errors import Corrupt
from gdb_kdump.session import Session


def list_for_each(session: Session, head: int, next_offset: int = 0) -> Iterator[int]:
    """Yield the nodes of a `struct list_head` from `head` on, without it; include/linux/list.h: list_for_each.

    `next_offset` is the byte offset of `next` in a node.  Raises Unreadable, or Corrupt when the list enters itself.
    """
    memory, last, node = session.memory, head, session.memory.ptr(head + next_offset)
    # Brent: the mark leaps ahead by powers of two, so a loop without the head is met within twice its length.
    mark, steps, limit = 0, 0, 1
    for _ in range(walks.max_elements()):
        if node == head:
            return
        if node == mark:
            raise Corrupt(node, "the list runs in a circle that its head is not part of", last)
        steps += 1
        if steps == limit:
            mark, steps, limit = node, 0, limit * 2
        yield node
        last, node = node, memory.ptr(node + next_offset)
    if node != head:
        raise Corrupt(node, walks.too_many("the list"), last)
