"""A search of the dump by the server's children: as many as there are processors, each with files of its own.

libkdumpfile may die of a damaged page. Then the child that it took along has lost a chunk, which is tried again in
smaller pieces by another child; what a last piece had is told as not searched.
"""

from __future__ import annotations

import os
import signal
import socket
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from gdb_kdump.channel.wire import MAX_BODY, MAX_MESSAGE, MOST_HOLES, RANGE, Found, pack_holes
from gdb_kdump.dump.confinement import die_with
from gdb_kdump.dump.matching import Matcher
from gdb_kdump.dump.scan import BLOCK, FindHole, Read, done, work
from gdb_kdump.dump.window import KEEP
from gdb_kdump.errors import DumpError, Why, words_of

if TYPE_CHECKING:
    from gdb_kdump.dump.dump import Dump  # which imports kdumpfile

_MOST_WORKERS = 16
_WORKER_BYTES = 12 << 20  # that a worker has for itself, beside what grows with the dump
_ALL_WORKERS_BYTES = 256 << 20
_SMALLEST_CHUNK, _LARGEST_CHUNK = 1 << 20, 64 << 20  # bytes
_CHUNKS_PER_WORKER = 64  # so that all end at about the same time
_AHEAD = 2  # chunks that a worker has
_PIECES = 8  # that a chunk is cut into when a worker has died of it
_MOST_DEATHS = 256
_SEND_BUFFER = 1 << 20

Chunk = tuple["tuple[int, int]", ...]
"""Ranges that are searched as one piece of work: addresses and bytes."""


class Worker:
    """A child that searches: `wire` leads to it, `chunks` are those that it has."""

    def __init__(self, pid: int, wire: socket.socket) -> None:
        self.pid = pid
        self.wire = wire
        self.chunks: deque[Chunk] = deque()

    def end(self) -> None:
        """Kill it, if it has not ended, and wait until it has gone."""
        self.wire.close()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


class Search:
    """A search that goes on while the server does other things: it asks `workers` for what has come."""

    def __init__(
        self,
        dump: Dump,
        physical: bool,
        matcher: Matcher,
        ranges: Sequence[tuple[int, int]],
        forget: Callable[[], None],
    ) -> None:
        """`ranges` are addresses and bytes; `forget` closes what a child must not keep open.

        Raises DumpError where no child can be had.
        """
        self._dump = dump
        self._read: Read = dump.read_physical if physical else dump.read
        self._hole: FindHole = dump.hole if physical else _no_hole
        self._matcher = matcher
        self._forget = forget
        self._again: deque[Chunk] = deque()
        self._deaths = 0
        count = _most_workers(dump.bitmap_bytes)
        size = sum(size for _, size in ranges) // (count * _CHUNKS_PER_WORKER) & -BLOCK
        self._chunks = _in_chunks(ranges, min(max(size, _SMALLEST_CHUNK), _LARGEST_CHUNK))
        self._keep = KEEP // count
        self.workers: dict[int, Worker] = {}
        """By the descriptor that tells when there is something from them."""
        while len(self.workers) < count and self._start():
            pass

    def stop(self) -> None:
        """End it where it is."""
        while self.workers:
            _, worker = self.workers.popitem()
            worker.end()

    def take(self, descriptor: int) -> list[bytes]:
        """What has come from a worker: the bodies of messages for the client."""
        worker = self.workers[descriptor]
        try:
            message = worker.wire.recv(MAX_MESSAGE)
        except ConnectionError:
            message = b""
        if not message:
            return self._bury(descriptor)
        if message[0] == Found.DONE:
            worker.chunks.popleft()
            self._give(worker)
        if message[0] == Found.ERROR:
            self.stop()
        return [message]

    def _bury(self, descriptor: int) -> list[bytes]:
        """Go on without a worker that has ended: by itself, or dead of the first of its chunks."""
        worker = self.workers.pop(descriptor)
        worker.end()
        if not worker.chunks:
            return []
        self._deaths += 1
        chunk = worker.chunks.popleft()
        self._again.extend(worker.chunks)
        lost: list[bytes] = []
        if self._deaths > _MOST_DEATHS or sum(size for _, size in chunk) <= BLOCK:
            lost = _lost(chunk)
        else:
            self._again.extend(_cut(chunk))
        self._start()
        return lost

    def _start(self) -> bool:
        """Have one more worker, if there is work for it."""
        first = self._next()
        if first is None:
            return False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            ours.close()
            theirs.close()
            if self.workers:
                self._again.append(first)
                return False
            raise DumpError(f"no process can be made to search the dump: {words_of(error)}") from None
        if not pid:
            self._become_worker(parent, ours, theirs)
        theirs.close()
        worker = self.workers[ours.fileno()] = Worker(pid, ours)
        self._give(worker, first)
        return True

    def _become_worker(self, parent: int, ours: socket.socket, theirs: socket.socket) -> None:
        """The life of a child; it never returns."""
        status = 1
        try:
            die_with(parent)
            self._forget()
            ours.close()
            for other in self.workers.values():
                other.wire.close()
            try:
                self._dump.reopen(self._keep)
            except DumpError as error:
                theirs.send(bytes([Found.ERROR]) + str(error).encode(errors="backslashreplace")[:MAX_BODY])
            else:
                work(theirs, self._read, self._hole, self._matcher)
            status = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(status)

    def _give(self, worker: Worker, chunk: Chunk | None = None) -> None:
        """Give a worker as many chunks as it may have, or let it end when there are no more."""
        with suppress(ConnectionError):  # it is dead: take() finds that out
            while len(worker.chunks) < _AHEAD:
                chunk = chunk or self._next()
                if chunk is None:
                    break
                worker.chunks.append(chunk)
                worker.wire.send(b"".join(RANGE.pack(start, size) for start, size in chunk))
                chunk = None
            if not worker.chunks:
                worker.wire.shutdown(socket.SHUT_WR)

    def _next(self) -> Chunk | None:
        return self._again.popleft() if self._again else next(self._chunks, None)


def _no_hole(_: int, __: int) -> None:
    """Holes of virtual addresses are found by reading."""


def _most_workers(bitmap_bytes: int) -> int:
    """As many as there are processors, and memory for."""
    each = _WORKER_BYTES + 4 * bitmap_bytes
    return max(1, min(len(os.sched_getaffinity(0)), _MOST_WORKERS, _ALL_WORKERS_BYTES // each))


def _in_chunks(ranges: Sequence[tuple[int, int]], most: int) -> Iterator[Chunk]:
    """The ranges in pieces of `most` bytes, at least BLOCK: parts of large ones, several small ones."""
    chunk: list[tuple[int, int]] = []
    room = most
    for start, size in ranges:
        while size:
            part = min(size, room - (start + room) % BLOCK)  # so that blocks are read as they lie in memory
            chunk.append((start, part))
            start, size, room = start + part, size - part, room - part
            if room < BLOCK or len(chunk) >= MOST_HOLES:
                yield tuple(chunk)
                chunk, room = [], most
    if chunk:
        yield tuple(chunk)


def _cut(chunk: Chunk) -> Iterator[Chunk]:
    """A chunk in smaller ones."""
    size = sum(size for _, size in chunk)
    return _in_chunks(chunk, max(BLOCK, -(-size // _PIECES)))


def _lost(chunk: Chunk) -> list[bytes]:
    """The messages for what no worker has lived through."""
    return [bytes([Found.HOLES]) + pack_holes((start, size, Why.UNKNOWN) for start, size in chunk), done(0, chunk)]
