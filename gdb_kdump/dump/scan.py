"""A worker of a search: a child of the dump server that goes through pieces of memory and says what it finds there."""

from __future__ import annotations

import socket
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Optional

from gdb_kdump.channel.wire import ADDRESS, MAX_BODY, MAX_MESSAGE, MOST_HOLES, RANGE, Found, pack_holes
from gdb_kdump.dump.matching import Matcher
from gdb_kdump.errors import DumpError, Why
from gdb_kdump.formats.integers import in_bytes
from gdb_kdump.records.runs import UNIT, Hole, Run

BLOCK = 64 * UNIT
"""Bytes that are read at a time: with what is made of them they stay in the processor's cache."""

_MOST_HITS = (MAX_BODY - 1) // 8
_TOP = 1 << 64

Read = Callable[[int, int], "list[Run]"]
FindHole = Callable[[int, int], Optional[Hole]]
Ranges = Sequence["tuple[int, int]"]


def work(wire: socket.socket, read: Read, hole: FindHole, matcher: Matcher) -> None:
    """Take chunks, each a message of some ranges, until there are no more, and answer each in messages (wire.Found)."""
    with suppress(ConnectionError):  # nobody wants the answer any more
        while request := wire.recv(MAX_MESSAGE):
            ranges = list(RANGE.iter_unpack(request))
            try:
                for message in _searched(Scan(read, hole, matcher), ranges):
                    wire.send(message)
            except DumpError as error:
                wire.send(bytes([Found.ERROR]) + str(error).encode(errors="backslashreplace")[:MAX_BODY])
                return


def _searched(scan: Scan, ranges: Ranges) -> Iterator[bytes]:
    """The messages that tell of some ranges, the last one that they are done."""
    for start, size in ranges:
        for _ in scan.go_through(start, start + size):
            yield from scan.take(_MOST_HITS, MOST_HOLES)
    yield from scan.take(1, 1)
    yield done(scan.searched, ranges)


def done(searched: int, ranges: Ranges) -> bytes:
    """The message that ranges are done, of which so many bytes were searched."""
    return bytes([Found.DONE]) + ADDRESS.pack(searched) + b"".join(RANGE.pack(start, size) for start, size in ranges)


class Scan:
    """What is found of a pattern.

    `read` gives what is at an address, for a number of bytes; `hole` the hole there, which may be a long one.
    """

    def __init__(self, read: Read, hole: FindHole, matcher: Matcher) -> None:
        self._read = read
        self._hole = hole
        self._matcher = matcher
        self._zeros = bytes(BLOCK)
        self._in_zeros = matcher.find(self._zeros)
        self._hits = array("Q")
        self._holes: list[tuple[int, int, Why]] = []
        self.searched = 0
        """Bytes."""

    def go_through(self, start: int, end: int) -> Iterator[None]:
        """Search the addresses from `start` to before `end`, block by block.

        A match begins there; it may go on after `end`, where the memory does.
        """
        start = -(-start // self._matcher.alignment) * self._matcher.alignment
        before = b""
        while start < end:
            hole = self._hole(start, end - start)
            size = min(BLOCK - start % BLOCK, end - start)
            for run in [hole] if hole is not None else self._read(start, size):
                if isinstance(run, Hole):
                    self._note(start, run)
                    start, before = start + run.size, b""
                    continue
                data = before + run
                base, seen = start - len(before), len(before)
                offsets = self._in_zeros if data == self._zeros else self._matcher.find(data, seen)
                self._hits.extend([base + offset for offset in offsets])
                self.searched += len(run)
                start += len(run)
                before = data[-self._matcher.overlap :] if self._matcher.overlap else b""
            yield
        if before and end < _TOP:
            self._look_across(end, before)

    def _look_across(self, end: int, before: bytes) -> None:
        """Find what begins in the last bytes before `end`, and goes on after it."""
        following = self._read(end, min(self._matcher.overlap, _TOP - end))[0]
        if isinstance(following, bytes):
            base = end - len(before)
            offsets = self._matcher.find(before + following, len(before))
            self._hits.extend([base + offset for offset in offsets if base + offset < end])

    def _note(self, addr: int, hole: Hole) -> None:
        """Keep a hole, as one with that before it where they are of a kind."""
        if self._holes:
            start, size, why = self._holes[-1]
            if start + size == addr and why is hole.why:
                self._holes[-1] = start, size + hole.size, why
                return
        self._holes.append((addr, hole.size, hole.why))

    def take(self, hits: int, holes: int) -> Iterator[bytes]:
        """Messages of what was found, once it is so many hits or holes."""
        if len(self._hits) >= hits:
            for first in range(0, len(self._hits), _MOST_HITS):
                yield bytes([Found.HITS]) + in_bytes(self._hits[first : first + _MOST_HITS])
            self._hits = array("Q")
        if len(self._holes) >= holes:
            for first in range(0, len(self._holes), MOST_HOLES):
                yield bytes([Found.HOLES]) + pack_holes(self._holes[first : first + MOST_HOLES])
            self._holes = []
