"""Every kind of container that the kernel keeps things in, walked with distrust; one name each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from gdb_kdump import walks
from gdb_kdump.errors import UsageError, Why
from gdb_kdump.kernel.lib.checked_lists import hlist_elements, hlist_nulls_elements, list_elements, llist_elements
from gdb_kdump.kernel.lib.maple_tree import maple_elements
from gdb_kdump.kernel.lib.rbtree import RbTrees
from gdb_kdump.kernel.lib.xarray import xarray_elements
from gdb_kdump.records.elements import Break, Element
from gdb_kdump.records.queue import DeadEnd
from gdb_kdump.session import Session
from gdb_kdump.text import hex16, is_kernel_address

Walker = Callable[[Session, int, bool], Iterator["Element | Break"]]


def walk_container(session: Session, kind: str, head: int, backward: bool = False) -> Iterator[Element | Break]:
    """The elements of the container of that kind at an address, and where it does not hold, as they come.

    Raises UsageError for a kind that there is not and an address that is none; MissingDebugInfo.
    """
    if kind not in KINDS:
        raise UsageError(f"no kind {kind!r} of container; there are: {', '.join(KINDS)}")
    if not is_kernel_address(head) or head & 7:
        raise UsageError(f"{hex16(head)} can be no head: it is no address in the kernel's memory that 8 divides")
    return KINDS[kind][0](session, head, backward)


def _rbtree(session: Session, root: int, backward: bool) -> Iterator[Element | Break]:
    """The nodes of a `struct rb_root *` or `struct rb_root_cached *` in order; lib/rbtree.c: rb_first, rb_next."""
    tree = RbTrees(session.memory, session.layout).walk(root, 0, lambda _: False)
    for end in tree.dead_ends:
        yield _break(root, end)
    if tree.stopped:
        yield Break(tree.stopped, tree.nodes[-1].addr if tree.nodes else None)
    for node in reversed(tree.nodes) if backward else tree.nodes:
        yield Element(node.addr)


def _break(root: int, end: DeadEnd) -> Break:
    link = f"{end.member} of {hex16(end.node or root)}"
    if end.why is None:
        return Break(f"{link} leads back to {hex16(end.found)}", end.node or None)
    reason = "there is no node of this tree" if end.why is Why.CORRUPT else end.why.sentence
    return Break(f"{link} is {hex16(end.found)}: {reason}", end.node or None)


def _reversible(walker: Callable[[Session, int], Iterator[Element | Break]]) -> Walker:
    """A walker for a chain that has one direction: the other way it is walked first and told from its end."""

    def walk(session: Session, head: int, backward: bool) -> Iterator[Element | Break]:
        steps = walker(session, head)
        return reversed(list(islice(steps, walks.max_elements() + 1))) if backward else steps

    return walk


KINDS: dict[str, tuple[Walker, str]] = {
    "list": (list_elements, "struct list_head *"),
    "hlist": (_reversible(hlist_elements), "struct hlist_head *"),
    "hlist_nulls": (_reversible(hlist_nulls_elements), "struct hlist_nulls_head *"),
    "llist": (_reversible(llist_elements), "struct llist_head *"),
    "rbtree": (_rbtree, "struct rb_root *"),
    "radix": (xarray_elements, "struct radix_tree_root *"),
    "xarray": (xarray_elements, "struct xarray *"),
    "maple": (maple_elements, "struct maple_tree *"),
}
