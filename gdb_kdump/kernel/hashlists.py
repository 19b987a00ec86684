"""The kernel's hash tables: arrays of hlist, hlist_nulls and rhashtable chains, walked with distrust."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.errors import Corrupt, Unreadable
from gdb_kdump.session import Session
from gdb_kdump.text import is_kernel_address

MAX_BUCKETS = 1 << 27
MAX_CHAIN = 1 << 20
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
        if node in met or len(met) >= MAX_CHAIN:
            raise Corrupt(node, "a hash chain runs in a circle", last)
        met.add(node)
        yield node
        last, node = node, session.memory.ptr(node)


def heads(session: Session, table: int, count: int, size: int, offset: int) -> Iterator[tuple[int, int] | Unreadable]:
    """(address, value) of the first pointer of each bucket that is not empty.

    `table` is an array of `count` buckets of `size` bytes with a pointer at `offset`.  Yields an Unreadable for each
    part of the array that is not in the dump; raises Corrupt for a count that no table has.
    """
    if not 0 <= count <= MAX_BUCKETS:
        raise Corrupt(table, f"a hash table of {count} buckets")
    number = 0
    while number < count:
        start = table + number * size
        data, why = session.memory.read_prefix(start, min((count - number) * size, _CHUNK // size * size))
        for at in range(offset, len(data) - 7, size):
            value = int.from_bytes(data[at : at + 8], "little")
            if value and not value & 1:
                yield start + at, value
        number += len(data) // size
        if why is not None:
            yield Unreadable(start + len(data), why)
            # On with the first bucket of the next page.
            number = max(number + 1, -(-(((start + len(data)) | 4095) + 1 - table) // size))


def chained(session: Session, table: int, count: int, size: int, offset: int, problems: list[str]) -> Iterator[int]:
    """Every node of every chain of a table, as heads() and chain() find them; what is broken goes to `problems`."""
    for head in heads(session, table, count, size, offset):
        if isinstance(head, Unreadable):
            problems.append(str(head))
            continue
        try:
            yield from chain(session, head[1])
        except (Unreadable, Corrupt) as error:
            problems.append(str(error))


def rhashtable(session: Session, table: int, problems: list[str]) -> Iterator[int]:
    """Every node (`struct rhash_head *`) of a `struct rhashtable *`; include/linux/rhashtable.h: rht_for_each.

    What is broken goes to `problems`.  Raises Unreadable for the struct itself.
    """
    memory, layout = session.memory, session.layout
    buckets = layout.offset("bucket_table.buckets")
    # 40137906c5f5 (v4.11) rhashtable: Add nested tables
    nest, future = layout.find_member("bucket_table.nest"), layout.find_member("bucket_table.future_tbl")
    tables: list[int] = []
    current = memory.ptr(table + layout.offset("rhashtable.tbl"))
    while current and current not in tables and len(tables) < _MAX_TABLES:
        tables.append(current)
        try:
            if nest is not None and memory.u32(current + nest.offset):
                problems.append(f"the hash table at 0x{current:016x} is nested (the kernel was short of memory)")
            else:
                count = memory.u32(current + layout.offset("bucket_table.size"))
                yield from _rhash_chains(session, current + buckets, count, problems)
            current = memory.ptr(current + future.offset) if future is not None else 0
        except (Unreadable, Corrupt) as error:
            problems.append(str(error))
            return


def _rhash_chains(session: Session, table: int, count: int, problems: list[str]) -> Iterator[int]:
    """Like chained(), but bit 0 of a bucket is a lock; include/linux/rhashtable.h: rht_ptr."""
    if not 0 <= count <= MAX_BUCKETS:
        raise Corrupt(table, f"a hash table of {count} buckets")
    for number in range(count):
        at = table + 8 * number
        try:
            first = session.memory.ptr(at) & ~1
            # An empty bucket is NULL, or in older kernels a marker that is made of its own address or number.
            if first not in (0, at) and is_kernel_address(first):
                yield from chain(session, first)
        except (Unreadable, Corrupt) as error:
            problems.append(str(error))
