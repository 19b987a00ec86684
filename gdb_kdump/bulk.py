"""Many small reads answered as one: the nodes of a linked list, and the same few bytes of many objects.

The dump server runs this beside the dump, because the pages around such bytes need not travel then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from gdb_kdump.errors import Why
from gdb_kdump.wire import ADDRESS, MAX_BODY, Hole, Run

_PAGE = 4096
_WINDOW_PAGES = 16  # one read of neighbouring pages costs a tenth less than one of each

Reader = Callable[[int, int], list[Run]]
"""What is at an address (u64), for a number of bytes: bytes and holes, in order."""


def follow(read: Reader, first: int, stop: int, next_offset: int, size: int, limit: int) -> Iterator[bytes]:
    """The nodes of a list one behind the other, `size` bytes of each, in blocks of whole nodes.

    `next_offset` is where in a node the pointer to the next one stands. The list ends before the node at `stop`, before
    one that cannot be read, and after `limit` nodes.
    """
    block: list[bytes] = []
    count = MAX_BODY // size
    data, base, room = b"", 0, 0
    node = first
    for _ in range(limit):
        if node == stop:
            break
        at = node - base
        if not 0 <= at < room:
            base = node & -_PAGE
            data = _start(read(base, (node + size - base + _PAGE - 1) & -_PAGE))
            at, room = node - base, len(data) - size + 1
            if at >= room:
                break
        block.append(data[at : at + size])
        (node,) = ADDRESS.unpack_from(data, at + next_offset)
        if len(block) == count:
            yield b"".join(block)
            block = []
    if block:
        yield b"".join(block)


def gather(read: Reader, addrs: Sequence[int], size: int) -> tuple[bytes, list[tuple[int, Why]]]:
    """The `size` bytes at each of `addrs` one behind the other, best asked for in order of address.

    Those that cannot be read are zeros, and listed: (index, why).
    """
    pages = {addr & -_PAGE for addr in addrs}
    parts: list[bytes] = []
    holes: list[tuple[int, Why]] = []
    data, base, room = b"", 0, 0
    for index, addr in enumerate(addrs):
        at = addr - base
        if not 0 <= at < room:
            base = addr & -_PAGE
            end = base + _PAGE
            while end in pages and end < base + _WINDOW_PAGES * _PAGE:
                end += _PAGE
            runs = read(base, (max(end, addr + size) - base + _PAGE - 1) & -_PAGE)
            data = _start(runs)
            at, room = addr - base, len(data) - size + 1
            if at >= room:
                parts.append(bytes(size))
                holes.append((index, next(run.why for run in runs if isinstance(run, Hole))))
                continue
        parts.append(data[at : at + size])
    return b"".join(parts), holes


def _start(runs: list[Run]) -> bytes:
    """The bytes before the first hole."""
    return runs[0] if isinstance(runs[0], bytes) else b""
