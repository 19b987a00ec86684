"""XArrays, and the radix trees that they replaced: every entry once, with its index; include/linux/xarray.h."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Protocol

from gdb_kdump.errors import Unreadable
from gdb_kdump.layout.members import array_length
from gdb_kdump.records.elements import Break, Element
from gdb_kdump.session import Session
from gdb_kdump.text import hex16, is_kernel_address

_INTERNAL = 2  # include/linux/xarray.h: xa_is_internal, of the two lowest bits
_MARKS = 1024  # xa_is_node: internal entries of lower numbers are an array's own
_RETRY = 256  # the number of XA_RETRY_ENTRY; those of siblings are numbers of slots
_ULONG_MAX = (1 << 64) - 1


def xarray_elements(session: Session, root: int, backward: bool = False) -> Iterator[Element | Break]:
    """The entries of a `struct xarray *` or `struct radix_tree_root *`, with their indices.

    Mirrors lib/xarray.c: xas_find; lib/radix-tree.c: radix_tree_next_chunk.
    """
    form = _form(session)
    try:
        entry = session.memory.ptr(root + form.root)
    except Unreadable as error:
        yield Break(f"the root at {hex16(root)}: {error}", None)
        return
    if not entry:
        return
    if form.is_node(entry):
        yield from _Tree(session, form, backward).below(form.node(entry), root, 0, 0, None, form.height(root))
    else:
        yield _element(form, entry, 0, 0)


def _element(form: Form, entry: int, first: int, last: int) -> Element:
    value = form.value(entry)
    return Element(entry if value is None else 0, first, last, value)


def is_xa_node(entry: int) -> bool:
    """Whether an entry of an XArray or maple tree leads to a node; include/linux/xarray.h: xa_is_node."""
    return entry & 3 == _INTERNAL and entry >> 2 >= _MARKS


def is_xa_mark(entry: int) -> bool:
    """Whether an entry is the container's own: a sibling, XA_RETRY_ENTRY, XA_ZERO_ENTRY, an error."""
    return entry & 3 == _INTERNAL and entry >> 2 < _MARKS


class Form(Protocol):
    """How entries are told from nodes."""

    root: int
    """The offset of the first entry in the root."""

    tag: str
    """The logical tag of a node's struct."""

    def is_node(self, entry: int) -> bool:
        """Whether an entry leads to a node."""

    def node(self, entry: int) -> int:
        """The address of that node."""

    def is_mark(self, entry: int) -> bool:
        """Whether an entry is the array's own, and neither a node nor the user's."""

    def is_sibling(self, entry: int) -> bool:
        """Whether an entry stands for the one before it."""

    def value(self, entry: int) -> int | None:
        """The number that an entry holds in place of a pointer."""

    def height(self, root: int) -> int | None:
        """The number of levels where the root says it and the nodes do not."""


class _XArray:
    """Since 3159f943aafd (v4.20) xarray: Replace exceptional entries."""

    tag = "xa_node"

    def __init__(self, session: Session) -> None:
        self.root = session.layout.offset("xarray.xa_head")

    def is_node(self, entry: int) -> bool:
        return is_xa_node(entry)

    def node(self, entry: int) -> int:
        return entry - _INTERNAL

    def is_mark(self, entry: int) -> bool:
        return is_xa_mark(entry)

    def is_sibling(self, entry: int) -> bool:
        return is_xa_mark(entry) and entry >> 2 < _RETRY

    def value(self, entry: int) -> int | None:
        return entry >> 1 if entry & 1 else None

    def height(self, root: int) -> int | None:
        return None


class _RadixTree:
    """Before it: bit 0 is a node's, bit 1 an exceptional entry's; include/linux/radix-tree.h."""

    tag = "radix_tree_node"

    def __init__(self, session: Session) -> None:
        self._session = session
        self.root = session.layout.offset("radix_tree_root.rnode")
        # c12e51b07b3a (v4.7) radix-tree: replace node->height with node->shift
        self._root_height = session.layout.find_member("radix_tree_root.height") is not None

    def is_node(self, entry: int) -> bool:
        return entry & 3 == 1

    def node(self, entry: int) -> int:
        return entry - 1

    def is_mark(self, entry: int) -> bool:
        return False

    def is_sibling(self, entry: int) -> bool:
        return False

    def value(self, entry: int) -> int | None:
        return entry >> 2 if entry & 2 else None

    def height(self, root: int) -> int | None:
        return self._session.number(root, "radix_tree_root.height") if self._root_height else None


def _form(session: Session) -> Form:
    return _XArray(session) if session.layout.find_struct("xarray") is not None else _RadixTree(session)


class _Tree:
    """One walk; a node is read whole, and must know its parent and its place there."""

    def __init__(self, session: Session, form: Form, backward: bool) -> None:
        self._session = session
        self._form = form
        self._backward = backward
        layout = session.layout
        slots = layout.member(f"{form.tag}.slots")
        self._slots_at, self._slots = slots.offset, struct.Struct(f"<{array_length(slots)}Q")
        self._bits = array_length(slots).bit_length() - 1
        names = ("parent", "offset", "shift")
        self._head = layout.unpacker(form.tag, names, {"offset": 0, "shift": 0})
        self._has_offset, self._has_shift = (
            layout.find_member(f"{form.tag}.{name}") is not None for name in ("offset", "shift")
        )

    def below(
        self, node: int, above: int, slot: int, base: int, shift: int | None, height: int | None
    ) -> Iterator[Element | Break]:
        """The entries below a node that was found in slot `slot` of `above`, whose first index is `base`.

        `shift` is what the node's own must be; of the first one it is None.
        """
        where = f"slot {slot} of {hex16(above)} leads to {hex16(node)}"
        if not is_kernel_address(node) or node & 7:
            yield Break(f"{where}, where no node can be", above)
            return
        try:
            parent, offset, own = self._head.unpack_from(*self._session.memory.block(node, self._head.span))
            slots = self._slots.unpack(self._session.memory.read(node + self._slots_at, self._slots.size))
        except Unreadable as error:
            yield Break(f"{where}: {error}", above)
            return
        if not self._has_shift:
            own = shift if shift is not None else self._bits * ((height or 1) - 1)
        expected_parent = 0 if shift is None else above
        if shift is not None and own != shift:
            yield Break(f"{where}, whose shift is {own}, not {shift}", above)
            return
        if own % self._bits or own >= 64 + self._bits:
            yield Break(f"{where}, whose shift is {own}: it is no node", above)
            return
        if parent != expected_parent:
            yield Break(f"{where}, whose parent is {hex16(parent)}, not {hex16(expected_parent)}", above)
            return
        if shift is not None and self._has_offset and offset != slot:
            yield Break(f"{where}, whose offset is {offset}, not {slot}", above)
            return
        yield from self._entries(node, base, own, slots)

    def _entries(self, node: int, base: int, shift: int, slots: tuple[int, ...]) -> Iterator[Element | Break]:
        numbers = range(len(slots))
        for number in reversed(numbers) if self._backward else numbers:
            entry = slots[number]
            first = base + (number << shift)
            if not entry or first > _ULONG_MAX:
                continue
            if shift and self._form.is_node(entry):
                child = self._form.node(entry)
                yield from self.below(child, node, number, first, shift - self._bits, None)
            elif self._form.is_node(entry):
                yield Break(f"slot {number} of {hex16(node)} holds a node, at the lowest level", node)
            elif not self._form.is_mark(entry):
                following = number + 1
                while following < len(slots) and self._form.is_sibling(slots[following]):
                    following += 1
                yield _element(self._form, entry, first, base + (following << shift) - 1)
