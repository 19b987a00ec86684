"""The kernel's hash tables: arrays of hlist, hlist_nulls and rhashtable chains, walked with distrust."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump import walks
from gdb_kdump.errors import Corrupt, Unreadable, Why
from gdb_kdump.records.runs import UNIT
from gdb_kdump.session import Session
from gdb_kdump.text import is_kernel_address
from gdb_kdump.walks import Gaps

_CHUNK = 1 << 16
_MAX_TABLES = 8  # an rhashtable that grows has two


def chain(session: Session, first: int) -> Iterator[int]:
    """The nodes of a chain whose first member is `next`: hlist_node, hlist_nulls_node, rhash_head.

    It ends at NULL or at a nulls marker, which is odd; include/linux/list_nulls.h: is_a_nulls.  Raises Unreadable,
    or Corrupt where it leads out of the kernel, back to itself, or never ends.
    """
    met: set[int] = set()
    node, last = first, None
    while node and not node & 1:
        if not is_kernel_address(node) or node & 7:
            raise Corrupt(node, "a hash chain leads out of memory", last)
        if len(met) >= walks.max_elements():
            raise Corrupt(node, walks.too_many("a hash chain"), last)
        if node in met:
            raise Corrupt(node, "a hash chain runs in a circle", last)
        met.add(node)
        yield node
        last, node = node, session.memory.ptr(node)


def heads(session: Session, table: int, count: int, size: int, offset: int) -> Iterator[tuple[int, int] | Unreadable]:
    """(address, value) of the first pointer of each bucket that is not 0.

    `table` is an array of `count` buckets of `size` bytes with a pointer at `offset`.  Yields an Unreadable for each
    part of the array that is not in the dump; raises Corrupt for a count that no table has, and where the array leads
    out of memory: a table is mapped as a whole.
    """
    if count > walks.max_elements():
        raise Corrupt(table, f"a hash table of {count} buckets (set kdump max-elements)")
    number = 0
    while number < count:
        start = table + number * size
        data, why = session.memory.read_prefix(start, min((count - number) * size, _CHUNK // size * size))
        for at in range(offset, len(data) - 7, size):
            value = int.from_bytes(data[at : at + 8], "little")
            if value:
                yield start + at, value
        number += len(data) // size
        if why is Why.UNMAPPED:
            raise Corrupt(start + len(data), f"a hash table of {count} buckets leads out of memory", start)
        if why is not None:
            yield Unreadable(start + len(data), why)
            # On with the first bucket of the next page.
            number = max(number + 1, -(-(((start + len(data)) | UNIT - 1) + 1 - table) // size))


def chained(session: Session, table: int, count: int, size: int, offset: int, gaps: Gaps) -> Iterator[int]:
    """Every node of every chain of a table, as heads() and chain() find them; what is broken goes to `gaps`."""
    yield from _chains(session, heads(session, table, count, size, offset), gaps)


def _chains(
    session: Session, buckets: Iterator[tuple[int, int] | Unreadable], gaps: Gaps, is_locked: bool = False
) -> Iterator[int]:
    """The nodes of the chains; with `is_locked` the lowest bit of a bucket is a lock and not a nulls marker."""
    try:
        for head in buckets:
            if isinstance(head, Unreadable):
                gaps.note(str(head))
                continue
            at, first = head
            if is_locked:
                # include/linux/rhashtable.h: rht_ptr.  An empty bucket is a lock alone, or in older kernels a marker
                # that is made of its own address or number.
                first &= ~1
                if first == at or not is_kernel_address(first):
                    continue
            try:
                yield from chain(session, first)
            except (Unreadable, Corrupt) as error:
                gaps.note(str(error))
    except Corrupt as error:
        gaps.note(str(error))


def rhashtable(session: Session, table: int, gaps: Gaps) -> Iterator[int]:
    """Every node (`struct rhash_head *`) of a `struct rhashtable *`; include/linux/rhashtable.h: rht_for_each.

    What is broken goes to `gaps`.  Raises Unreadable for the struct itself.
    """
    layout = session.layout
    buckets = layout.offset("bucket_table.buckets")
    # 40137906c5f5 (v4.11) rhashtable: Add nested tables
    nests, grows = (layout.find_member(f"bucket_table.{name}") is not None for name in ("nest", "future_tbl"))
    tables: list[int] = []
    current = session.pointer(table, "rhashtable.tbl")
    while current and current not in tables and len(tables) < _MAX_TABLES:
        tables.append(current)
        try:
            if nests and session.number(current, "bucket_table.nest"):
                gaps.note(f"the hash table at 0x{current:016x} is nested (the kernel was short of memory)")
            else:
                count = session.number(current, "bucket_table.size")
                yield from _chains(session, heads(session, current + buckets, count, 8, 0), gaps, is_locked=True)
            current = session.pointer(current, "bucket_table.future_tbl") if grows else 0
        except (Unreadable, Corrupt) as error:
            gaps.note(str(error))
            return
