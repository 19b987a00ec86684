"""The dump's memory as our own commands read it: a cache of pages over the bulk channel.

Four pages are fetched when one is touched out of the blue: to decompress the others costs less than another round
trip, and most objects have a neighbour. After a page that is here already come up to 16: that is a walk.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from gdb_kdump.channel.client import Answer, Server
from gdb_kdump.channel.wire import ADDRESS, MAX_NODES, MAX_READ, Piece, by_piece
from gdb_kdump.errors import Unreadable, Why
from gdb_kdump.formats.integers import integers
from gdb_kdump.records.runs import UNIT, Hole

_SHIFT = UNIT.bit_length() - 1
_TOP = 1 << 64
_FIRST_TOUCH = 4 * UNIT
_MAX_HOLES = 1 << 18
_CACHE_BYTES = 64 << 20
_SHORT = 32  # nodes of a list
_AHEAD = 2  # requests that the server has while we look at an answer

_U16 = struct.Struct("<H").unpack_from
_U32 = struct.Struct("<I").unpack_from
_U64 = struct.Struct("<Q").unpack_from
_S32 = struct.Struct("<i").unpack_from
_S64 = struct.Struct("<q").unpack_from

T = TypeVar("T")


class Gather(Generic[T]):
    """One member of many objects, read by the server while the caller still looks for the next objects."""

    def __init__(self, server: Server, offset: int, size: int, decode: Callable[[bytes], Iterable[T]]) -> None:
        self._server = server
        self._offset = offset
        self._size = size
        self._decode = decode
        self._new: list[int] = []
        self._asked: deque[tuple[list[int], Answer]] = deque()
        self._members: dict[int, T | Why] = {}

    def add(self, objects: Iterable[int]) -> None:
        """Ask for that of some more objects (addresses); raises DumpError when the server is gone."""
        self._new += objects
        while len(self._new) >= MAX_NODES:
            self._ask()

    def found(self, wait: bool = True) -> dict[int, T | Why]:
        """The member by the address of its object, or why there is none; raises DumpError when the server is gone.

        Without `wait` those that have been answered.
        """
        while wait and self._new:
            self._ask()
        while wait and self._asked:
            self._take()
        return self._members

    def _ask(self) -> None:
        objects = sorted(self._new[:MAX_NODES])  # the dump's pages then come in large pieces
        del self._new[:MAX_NODES]
        below, beyond = bisect_left(objects, 0), bisect_left(objects, _TOP - self._offset - self._size + 1)
        self._members.update(dict.fromkeys(objects[:below] + objects[beyond:], Why.UNMAPPED))
        objects = objects[below:beyond]
        if objects:
            self._asked.append((objects, self._server.begin_gather(objects, self._offset, self._size)))
        if len(self._asked) > _AHEAD:  # a server whose answers are not taken accepts no requests
            self._take()

    def _take(self) -> None:
        objects, answer = self._asked.popleft()
        data, holes = self._server.pieces(answer)
        members: list[T | Why] = [*self._decode(data)]
        for index, why in holes.items():
            members[index] = why
        self._members.update(zip(objects, members))


class Memory:
    """Reads of kernel virtual addresses; an address is an int from 0 to 2**64 - 1.

    Every read raises Unreadable with the first address that the dump cannot give, and DumpError when the server is
    gone. An address below zero, or a read past the top of the address space, is UNMAPPED.
    """

    def __init__(self, server: Server, cache_bytes: int = _CACHE_BYTES) -> None:
        self._server = server
        self._limit = max(cache_bytes, MAX_READ)  # or a fetch could evict what it was for
        self._held = 0
        # Page number -> the buffer that holds it and the buffer's address; neighbours share a buffer.
        self._pages: dict[int, tuple[bytes, int]] = {}
        # First page number of each buffer -> number of pages, oldest first.
        self._buffers: dict[int, int] = {}
        self._holes: dict[int, Why] = {}

    def read(self, addr: int, size: int) -> bytes:
        """The `size` bytes at `addr`."""
        entry = self._pages.get(addr >> _SHIFT)
        if entry is not None:
            offset = addr - entry[1]
            data = entry[0][offset : offset + size]
            if len(data) == size:
                return data
        data, why = self.read_prefix(addr, size)
        if why is not None:
            raise Unreadable(addr + len(data), why)
        return data

    def read_prefix(self, addr: int, size: int) -> tuple[bytes, Why | None]:
        """The bytes at `addr` up to the first hole, at most `size`, and why it ends early, or None."""
        if size < 0:
            raise ValueError(f"a read of {size} bytes")
        if addr < 0:
            return b"", Why.UNMAPPED
        parts: list[bytes] = []
        at, end = addr, min(addr + size, _TOP)
        while at < end:
            entry = self._page(at >> _SHIFT, end)
            if isinstance(entry, Why):
                return b"".join(parts), entry
            offset = at - entry[1]
            part = entry[0][offset : offset + end - at]
            parts.append(part)
            at += len(part)
        return b"".join(parts), Why.UNMAPPED if addr + size > _TOP else None

    def block(self, addr: int, size: int = 1) -> tuple[bytes, int]:
        """A buffer and the offset of `addr` in it, with at least `size` bytes from there.

        For walkers that take many members out of one object: `unpack_from(*memory.block(addr, size))` copies nothing
        while the object does not cross the end of a buffer.
        """
        entry = self._pages.get(addr >> _SHIFT)
        if entry is not None:
            offset = addr - entry[1]
            if offset + size <= len(entry[0]):
                return entry[0], offset
        self.read(addr, 1)
        buffer, base = self._pages[addr >> _SHIFT]
        if addr - base + size <= len(buffer):
            return buffer, addr - base
        return self.read(addr, size), 0

    def follow(
        self, first: int, stop: int, next_offset: int, pieces: Sequence[Piece]
    ) -> Generator[tuple[array[int], bytes], None, None]:
        """The nodes of a list from `first` to the one before `stop`, in blocks of several.

        Of each block: what the pointers to the next nodes say, which stand at `next_offset`, and the first of some
        pieces of all its nodes, then the second of all, ….  It ends without a word before a node that cannot be read,
        and never where the list runs in a circle.  Raises DumpError when the server is gone.
        """
        pieces = [(next_offset, ADDRESS.size), *pieces]
        size = max(offset + length for offset, length in pieces)
        nodes: list[bytes] = []
        node = first
        # Most lists are short, and in pages that are here already: only a long one is the server's to follow.
        while node != stop and len(nodes) < _SHORT:
            try:
                data, at = self.block(node, size)
            except Unreadable:
                break
            nodes.append(data[at : at + size])
            (node,) = ADDRESS.unpack_from(data, at + next_offset)
        yield _pointers(by_piece(b"".join(nodes), size, pieces), len(nodes))
        if len(nodes) < _SHORT:
            return
        server = self._server
        answer = server.begin_follow(node, stop, pieces, MAX_NODES)
        size = sum(length for _, length in pieces)
        count = MAX_NODES
        while count == MAX_NODES:
            count = 0
            for block in server.blocks(answer):
                following, rest = _pointers(block, len(block) // size)
                count += len(following)
                if count == MAX_NODES:  # the server goes on while the caller looks at this block
                    answer = server.begin_follow(following[-1], stop, pieces, MAX_NODES)
                yield following, rest

    def gather(self, offset: int, size: int, decode: Callable[[bytes], Iterable[T]]) -> Gather[T]:
        """A collector of the `size` bytes at `offset` of many objects.

        `decode` makes the members of the bytes of several, which stand one after the other.
        """
        return Gather(self._server, offset, size, decode)

    def stream(self, start: int, size: int, count: int) -> Iterator[tuple[int, bytes | Why]]:
        """An array of `count` elements of `size` bytes, past the cache, which a large one would fill.

        Yields the address and the bytes of several whole elements, and where some are missing the address and why.
        Raises DumpError when the server is gone.
        """
        per_read = MAX_READ // size
        for first in range(0, count, per_read):
            at = begin = start + first * size
            for run in self._server.read(begin, min(per_read, count - first) * size):
                if isinstance(run, Hole):
                    yield at, run.why
                    at += run.size
                    continue
                # Elements whose size is no power of two may begin in one page and end in the next.
                skipped = -(at - begin) % size
                whole = (len(run) - skipped) // size * size
                if whole > 0:
                    yield at + skipped, run[skipped : skipped + whole]
                at += len(run)

    def known_holes(self, why: Why) -> list[int]:
        """The addresses of pages that were asked for and could not be read for that reason, as far as it remembers."""
        return [page << _SHIFT for page, known in self._holes.items() if known is why]

    def why(self, addr: int) -> Why | None:
        """Why the byte at `addr` cannot be read, or None when it can."""
        return self.read_prefix(addr, 1)[1]

    def u8(self, addr: int) -> int:
        """The u8 at `addr`."""
        return self.read(addr, 1)[0]

    def u16(self, addr: int) -> int:
        """The u16 at `addr`."""
        return _U16(self.read(addr, 2))[0]  # type: ignore[no-any-return]

    def u32(self, addr: int) -> int:
        """The u32 at `addr`."""
        return _U32(self.read(addr, 4))[0]  # type: ignore[no-any-return]

    def u64(self, addr: int) -> int:
        """The u64 at `addr`."""
        return _U64(self.read(addr, 8))[0]  # type: ignore[no-any-return]

    def s32(self, addr: int) -> int:
        """The s32 at `addr`."""
        return _S32(self.read(addr, 4))[0]  # type: ignore[no-any-return]

    def s64(self, addr: int) -> int:
        """The s64 at `addr`."""
        return _S64(self.read(addr, 8))[0]  # type: ignore[no-any-return]

    ptr = u64

    def cstring(self, addr: int, limit: int = 256) -> bytes:
        """The bytes of the C string at `addr` without its NUL; the first `limit` bytes when there is no NUL in them.

        Raises Unreadable when a hole comes before both.
        """
        data, why = self.read_prefix(addr, limit)
        end = data.find(b"\0")
        if end >= 0:
            return data[:end]
        if why is not None:
            raise Unreadable(addr + len(data), why)
        return data

    def clear(self) -> None:
        """Forget every page: Ctrl-C may have struck between two that belong together."""
        self._pages.clear()
        self._buffers.clear()
        self._holes.clear()
        self._held = 0

    def _page(self, page: int, end: int) -> tuple[bytes, int] | Why:
        """The buffer with page number `page` and its address, or why there is none; the read goes on to `end`."""
        entry = self._pages.get(page)
        if entry is not None:
            return entry
        why = self._holes.get(page)
        if why is not None:
            return why
        self._fetch(page << _SHIFT, self._span(page, end))
        return self._pages.get(page) or self._holes[page]

    def _span(self, page: int, end: int) -> int:
        """How many bytes to fetch from `page` on."""
        start = page << _SHIFT
        if page - 1 in self._pages:
            end = _TOP
        stop = min((start & -MAX_READ) + MAX_READ, max(end, start + _FIRST_TOUCH)) + UNIT - 1 >> _SHIFT
        after = page + 1
        while after < stop and after not in self._pages and after not in self._holes:
            after += 1
        return after - page << _SHIFT

    def _fetch(self, start: int, size: int) -> None:
        at = start
        for run in self._server.read(start, size):
            if isinstance(run, Hole):
                self._remember_hole(at, run)
                at += run.size
            else:
                self._remember(at, run)
                at += len(run)

    def _remember(self, start: int, data: bytes) -> None:
        first, count = start >> _SHIFT, len(data) >> _SHIFT
        # Entered before its pages, so that Ctrl-C in between leaves no page that is never evicted.
        self._buffers[first] = count
        self._held += len(data)
        entry = (data, start)
        for page in range(first, first + count):
            self._pages[page] = entry
        while self._held > self._limit and len(self._buffers) > 1:
            self._evict()

    def _evict(self) -> None:
        first = next(iter(self._buffers))
        count = self._buffers.pop(first)
        self._held -= count << _SHIFT
        for page in range(first, first + count):
            self._pages.pop(page, None)

    def _remember_hole(self, start: int, hole: Hole) -> None:
        if len(self._holes) > _MAX_HOLES:
            self._holes.clear()
        for page in range(start >> _SHIFT, (start + hole.size) >> _SHIFT):
            self._holes[page] = hole.why


def _pointers(block: bytes, count: int) -> tuple[array[int], bytes]:
    """The pointers at the beginning of a block, and the rest of it."""
    end = count * ADDRESS.size
    return integers("Q", block[:end]), block[end:]
