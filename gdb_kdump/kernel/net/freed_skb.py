"""What an sk_buff that was freed does not hold any more: SLUB keeps the pointer to the next free object in it."""

from __future__ import annotations

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.mm.allocator import allocator
from gdb_kdump.session import Session

_POINTER = 8  # bytes


def overwritten_members(session: Session, skb: int) -> frozenset[str]:
    """The members (C names) of the freed `struct sk_buff *` skb that have that pointer; mm/slub.c: set_freepointer."""
    try:
        entry = allocator(session).find_object(skb)
        if entry is None:
            return frozenset()
        low = entry.start + entry.cache.offset - skb
        return frozenset(_members(session, low, low + _POINTER))
    except (Unreadable, Corrupt, MissingDebugInfo):
        return frozenset()


def _members(session: Session, low: int, high: int) -> set[str]:
    """The members of struct sk_buff, those of its unnamed structs and unions too, that have one of these bytes."""
    found: set[str] = set()
    pending = [(field, 0) for field in session.layout.struct("sk_buff").fields()]
    while pending:
        field, base = pending.pop()
        start = base + field.bitpos // 8
        end = start + max(1, field.bitsize // 8 if field.bitsize else field.type.sizeof)
        if end <= low or high <= start:
            continue
        if field.name:
            found.add(str(field.name))
        else:
            pending += [(inner, start) for inner in field.type.strip_typedefs().fields()]
    return found
