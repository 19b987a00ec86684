"""Many small reads answered as one: the nodes of a linked list, and the same few bytes of many objects.

The dump server runs this beside the dump, because the pages around such bytes need not travel then.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

from gdb_kdump.channel.wire import ADDRESS, MAX_BODY, Piece, by_piece
from gdb_kdump.errors import Why
from gdb_kdump.records.runs import UNIT, Hole, Run

_WORD = 8
_WINDOW_PAGES = 16  # one read of neighbouring pages costs a tenth less than one of each

Reader = Callable[[int, int], list[Run]]
"""What is at an address (u64), for a number of bytes: bytes and holes, in order."""


def follow(read: Reader, first: int, stop: int, pieces: Sequence[Piece], limit: int) -> Iterator[bytes]:
    """The nodes of a list in order, in blocks: of many nodes the first of `pieces`, then the second, ….

    The first piece is the pointer to the next node. The list ends before the node at `stop`, before one that cannot be
    read, and after `limit` nodes.
    """
    size = max(offset + length for offset, length in pieces) + _WORD - 1 & -_WORD
    count = MAX_BODY // sum(length for _, length in pieces)
    next_offset, _ = pieces[0]
    block: list[bytes] = []
    data, base, room, pages = b"", 0, 0, 1
    node = first
    for _ in range(limit):
        if node == stop:
            break
        offset = node - base
        if not 0 <= offset < room:
            # Nodes of a slab follow one another: sequential so far, so read ahead.
            pages = min(2 * pages, _WINDOW_PAGES) if 0 <= offset - len(data) < UNIT else 1
            base = node & -UNIT
            data = _start(read(base, max(pages * UNIT, (node + size - base + UNIT - 1) & -UNIT)))
            offset, room = node - base, len(data) - size + 1
            if offset >= room:
                break
        block.append(data[offset : offset + size])
        (node,) = ADDRESS.unpack_from(data, offset + next_offset)
        if len(block) == count:
            yield by_piece(b"".join(block), size, pieces)
            block = []
    if block:
        yield by_piece(b"".join(block), size, pieces)


def gather(read: Reader, objects: Sequence[int], offset: int, size: int) -> tuple[bytes, list[tuple[int, Why]]]:
    """The `size` bytes at `offset` of each object (address), one after the other; the objects must be in order.

    Those that cannot be read are zeros, and listed: (index, why).
    """
    parts: list[bytes] = []
    holes: list[tuple[int, Why]] = []
    count, index = len(objects), 0
    while index < count:
        base = objects[index] + offset & -UNIT
        end, most = base + UNIT, base + _WINDOW_PAGES * UNIT
        after = bisect_left(objects, end - offset, index)
        while after < count and end < most and objects[after] + offset < end + UNIT:
            end += UNIT
            after = bisect_left(objects, end - offset, after)
        runs = read(base, (max(end, objects[after - 1] + offset + size) - base + UNIT - 1) & -UNIT)
        data = _start(runs)
        shift = base - offset
        room = bisect_left(objects, shift + len(data) - size + 1, index, after)
        parts += [data[addr - shift : addr - shift + size] for addr in objects[index:room]]
        if room < after:
            parts.append(bytes(size))
            holes.append((room, next(run.why for run in runs if isinstance(run, Hole))))
            room += 1
        index = room
    return b"".join(parts), holes


def _start(runs: list[Run]) -> bytes:
    """The bytes before the first hole."""
    return runs[0] if isinstance(runs[0], bytes) else b""
