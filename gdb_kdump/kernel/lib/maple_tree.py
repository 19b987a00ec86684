"""Maple trees: every entry with its range of indices; include/linux/maple_tree.h, lib/maple_tree.c.

d4af56c5c7c6 (v6.1) mm: start tracking VMAs with maple tree
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.xarray import is_xa_mark, is_xa_node
from gdb_kdump.layout.members import array_length
from gdb_kdump.records.elements import Break, Element
from gdb_kdump.session import Session
from gdb_kdump.text import hex16, is_kernel_address

_NODE_MASK = 255  # MAPLE_NODE_MASK: nodes are aligned to it, and pointers to them carry more in these bits
_TYPE_SHIFT, _TYPE_MASK = 3, 15  # MAPLE_NODE_TYPE_SHIFT, MAPLE_NODE_TYPE_MASK
_ROOT_PARENT = 1  # MA_ROOT_PARENT
_MOST_LEVELS = 31  # MAPLE_HEIGHT_MAX
_ULONG_MAX = (1 << 64) - 1


def maple_elements(session: Session, tree: int, backward: bool = False) -> Iterator[Element | Break]:
    """The entries of a `struct maple_tree *` with their ranges; lib/maple_tree.c: mt_find.  Raises MissingDebugInfo."""
    walked = _Tree(session, tree, backward)
    try:
        root = session.pointer(tree, "maple_tree.ma_root")
    except Unreadable as error:
        yield Break(f"the root at {hex16(tree)}: {error}", None)
        return
    if not root:
        return
    if is_xa_node(root):
        yield from walked.below(root, tree | _ROOT_PARENT, 0, _ULONG_MAX, 0)
    else:
        yield _element(root, 0, 0)


def _element(entry: int, first: int, last: int) -> Element:
    return Element(0, first, last, entry >> 1) if entry & 1 else Element(entry, first, last)


class _Kind:
    """Where the nodes of one type have their pivots and slots."""

    def __init__(self, session: Session, tag: str) -> None:
        pivots, slots = (session.layout.member(f"{tag}.{name}") for name in ("pivot", "slot"))
        self.pivots_at, self.pivots = pivots.offset, struct.Struct(f"<{array_length(pivots)}Q")
        self.slots_at, self.slots = slots.offset, struct.Struct(f"<{array_length(slots)}Q")


class _Tree:
    """One walk; a node must know its parent, and its pivots must rise."""

    def __init__(self, session: Session, tree: int, backward: bool) -> None:
        self._session = session
        self._tree = tree
        self._backward = backward
        self._met: set[int] = set()
        types = session.layout.enumerators("maple_type")
        range_kind, arange_kind = _Kind(session, "maple_range_64"), _Kind(session, "maple_arange_64")
        try:
            self._leaf = types["maple_leaf_64"]
            self._kinds = {
                self._leaf: range_kind,
                types["maple_range_64"]: range_kind,
                types["maple_arange_64"]: arange_kind,
            }
        except KeyError as error:
            raise MissingDebugInfo(f"enumerator {error.args[0]}") from None

    def below(self, encoded: int, parent: int, low: int, high: int, level: int) -> Iterator[Element | Break]:
        """The entries from index `low` to `high`, below the node that a pointer with its type in it leads to.

        `parent` is what the node must say of the one above it, but for the bits that say which slot.
        """
        node, node_type = encoded & ~_NODE_MASK, encoded >> _TYPE_SHIFT & _TYPE_MASK
        above = parent & ~_NODE_MASK if level else self._tree
        where = f"{hex16(above)} leads to {hex16(node)}"
        if not is_kernel_address(node) or node_type not in self._kinds or level >= _MOST_LEVELS:
            yield Break(f"{hex16(above)} has the pointer {hex16(encoded)}, which leads to no node", above)
            return
        if node in self._met:
            yield Break(f"{hex16(above)} leads back to {hex16(node)}", above)
            return
        self._met.add(node)
        kind = self._kinds[node_type]
        try:
            known = self._session.pointer(node, "maple_node.parent")
            pivots = kind.pivots.unpack(self._session.memory.read(node + kind.pivots_at, kind.pivots.size))
            slots = kind.slots.unpack(self._session.memory.read(node + kind.slots_at, kind.slots.size))
        except Unreadable as error:
            yield Break(f"{where}: {error}", above)
            return
        if (known != parent) if not level else (known & ~_NODE_MASK != above):
            yield Break(f"{where}, whose parent is {hex16(known)}", above)
            return
        try:
            ranges = _ranges(node, pivots, slots, low, high)
        except Corrupt as error:
            yield Break(f"{where}: {error}", above)
            return
        for first, last, entry in reversed(ranges) if self._backward else ranges:
            if node_type == self._leaf:
                if not is_xa_mark(entry):  # XA_ZERO_ENTRY keeps a place
                    yield _element(entry, first, last)
            else:
                yield from self.below(entry, node, first, last, level + 1)


def _ranges(
    node: int, pivots: tuple[int, ...], slots: tuple[int, ...], low: int, high: int
) -> list[tuple[int, int, int]]:
    """(first, last, entry) of the slots in use that hold something; lib/maple_tree.c: mas_logical_pivot.

    Raises Corrupt where the pivots do not rise, or lead out of the node's own range.
    """
    ranges, first = [], low
    for number, entry in enumerate(slots):
        pivot = pivots[number] if number < len(pivots) else high
        last = high if number and not pivot else pivot
        if not first <= last <= high:
            raise Corrupt(node, f"pivot {number} is {pivot:#x}, not from {first:#x} to {high:#x}")
        if entry:
            ranges.append((first, last, entry))
        if last == high:
            break
        first = last + 1
    return ranges
