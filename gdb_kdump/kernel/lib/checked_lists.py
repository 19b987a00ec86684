"""Lists whose links are all compared: each node must say of the one before what that says of it.

The kernel's own walks, and ours in lists.py, follow one direction. These are for a list that is suspected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gdb_kdump.errors import Unreadable
from gdb_kdump.records.elements import Break, Element
from gdb_kdump.session import Session
from gdb_kdump.text import hex16, is_kernel_address


def list_elements(session: Session, head: int, backward: bool = False) -> Iterator[Element | Break]:
    """The nodes of a `struct list_head *`, without the head, from its last one on where that is wanted.

    Where the list breaks, what can be reached from its other end follows in the same order.
    Mirrors include/linux/list.h: list_for_each; lib/list_debug.c: __list_del_entry_valid.
    """
    met: set[int] = set()
    broken = False
    for step in _one_way(session, head, backward, met):
        broken = broken or isinstance(step, _End)
        yield step if not isinstance(step, _End) else step.why
    if broken:
        # A break where the two ways meet has been told.
        rest = [step for step in _one_way(session, head, not backward, met) if isinstance(step, Element)]
        yield from reversed(rest)


class _End:
    """A break after which there is no next node."""

    def __init__(self, why: Break) -> None:
        self.why = why


def _one_way(session: Session, head: int, backward: bool, met: set[int]) -> Iterator[Element | Break | _End]:
    names = ("prev", "next") if backward else ("next", "prev")
    links = session.layout.unpacker("list_head", names)
    memory, last = session.memory, head
    try:
        following, before = links.unpack_from(*memory.block(head, links.span))
        while following != head:
            node = following
            if node in met:
                yield _End(Break(f"{names[0]} of {hex16(last)} leads back to {hex16(node)}", last))
                return
            if not is_kernel_address(node) or node & 7:
                yield _End(Break(f"{names[0]} of {hex16(last)} is {hex16(node)}, where no node can be", last))
                return
            following, before = links.unpack_from(*memory.block(node, links.span))
            met.add(node)
            if before != last:
                yield Break(f"{names[1]} of {hex16(node)} is {hex16(before)}, not {hex16(last)}", last)
            yield Element(node)
            last = node
        yield from _closes(session, head, last, names[1])
    except Unreadable as error:
        yield _End(Break(f"{names[0]} of {hex16(last)}: {error}", last))


def _closes(session: Session, head: int, last: int, name: str) -> Iterator[Break]:
    """A break where the head does not know the node that leads to it."""
    before = session.pointer(head, f"list_head.{name}")
    if before != last:
        yield Break(f"{name} of the head {hex16(head)} is {hex16(before)}, not {hex16(last)}", last)


def hlist_elements(session: Session, head: int) -> Iterator[Element | Break]:
    """The nodes of a `struct hlist_head *`; include/linux/list.h: hlist_for_each."""
    return _hlist(session, head, "hlist", lambda word: word == 0)


def hlist_nulls_elements(session: Session, head: int) -> Iterator[Element | Break]:
    """The nodes of a `struct hlist_nulls_head *`; include/linux/list_nulls.h: hlist_nulls_for_each_entry."""
    return _hlist(session, head, "hlist_nulls", lambda word: bool(word & 1))


def _hlist(session: Session, head: int, tag: str, is_end: Callable[[int], bool]) -> Iterator[Element | Break]:
    links = session.layout.unpacker(f"{tag}_node", ("next", "pprev"))
    next_at = session.layout.offset(f"{tag}_node.next")
    from_head = session.layout.offset(f"{tag}_head.first")
    return _singly(session, head, from_head, next_at, is_end, links.unpack_from, links.span)


def llist_elements(session: Session, head: int) -> Iterator[Element | Break]:
    """The nodes of a `struct llist_head *`, the newest first; include/linux/llist.h: llist_for_each."""
    links = session.layout.unpacker("llist_node", ("next",))
    next_at, from_head = session.layout.offset("llist_node.next"), session.layout.offset("llist_head.first")
    return _singly(session, head, from_head, next_at, lambda word: word == 0, links.unpack_from, links.span)


def _singly(
    session: Session,
    head: int,
    from_head: int,
    next_at: int,
    is_end: Callable[[int], bool],
    unpack: Callable[[bytes, int], tuple[int, ...]],
    span: int,
) -> Iterator[Element | Break]:
    """The nodes of a chain; `unpack` gives next, and pprev where a node has that: the pointer that leads to it."""
    memory, met, last = session.memory, set[int](), head
    link, name = head + from_head, "first"
    try:
        node = memory.ptr(link)
        while not is_end(node):
            if node in met:
                yield Break(f"{name} of {hex16(last)} leads back to {hex16(node)}", last)
                return
            if not is_kernel_address(node) or node & 7:
                yield Break(f"{name} of {hex16(last)} is {hex16(node)}, where no node can be", last)
                return
            following, *back = unpack(*memory.block(node, span))
            met.add(node)
            if back and back[0] != link:
                yield Break(f"pprev of {hex16(node)} is {hex16(back[0])}, not {hex16(link)}", last)
            yield Element(node)
            last, link, name, node = node, node + next_at, "next", following
    except Unreadable as error:
        yield Break(f"{name} of {hex16(last)}: {error}", last)
