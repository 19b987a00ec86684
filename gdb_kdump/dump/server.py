"""The dump server: a child process of GDB that alone holds libkdumpfile, and answers on two sockets.

Run as `python3 -I server.py CHANNEL_FD LISTENER_FD PARENT_PID MEMORY VMCORE...` by channel/spawn.py.  It ends when its
parent does, when the parent closes the channel, or when GDB's connection ends.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # -I leaves nothing of ours on the path

from gdb_kdump.arch.registers import RegisterSet
from gdb_kdump.channel.wire import (
    ADDRESS,
    FOLLOW,
    GATHER,
    HELLO,
    MAX_BODY,
    MAX_MESSAGE,
    MAX_NODE,
    MAX_NODES,
    MAX_PIECES,
    MAX_READ,
    NOTICE,
    PIECE,
    RANGE,
    READ,
    REPLY,
    REQUEST,
    Op,
    Piece,
    Status,
    pack_mappings,
    pack_pieces,
    pack_runs,
)
from gdb_kdump.dump.bulk import follow, gather
from gdb_kdump.dump.confinement import die_with, keep_secrets, restrain
from gdb_kdump.dump.matching import matcher
from gdb_kdump.dump.preflight import RawMemory, examine
from gdb_kdump.dump.rsp import GdbThread, Stub, ThreadTable
from gdb_kdump.dump.saved_registers import SavedRegisters
from gdb_kdump.dump.searching import Search
from gdb_kdump.errors import DumpError
from gdb_kdump.formats.integers import integers
from gdb_kdump.records.patterns import pattern_from_json

_PEER = struct.Struct("iII")  # struct ucred of <sys/socket.h>: pid, uid, gid
_RECEIVE = 1 << 16
_TOP = 1 << 64
_SIGN_SECONDS = 5


class DumpServer:
    """The two sockets and what is said on them; also the Target of the RSP stub."""

    def __init__(self, channel: socket.socket, listener: socket.socket, parent: int) -> None:
        self._parent = parent
        self._channel = channel
        self._channel.setblocking(False)
        self._listener = listener
        self._gdb: socket.socket | None = None
        self._stub = Stub(self)
        self._to_client: deque[bytes] = deque()
        self._to_gdb = b""
        self._arriving: list[GdbThread] = []
        self._ranges: list[tuple[int, int]] = []
        self._search: tuple[int, Search] | None = None
        self._over = False
        self._overwritten: Callable[[], str | None] = lambda: None
        self._sign = time.monotonic()

    def open(self, paths: list[str], memory: RawMemory | None) -> None:
        """Open the dump's files and say hello; raises DumpError, and ImportError when there is no kdumpfile."""
        from gdb_kdump.dump.dump import Dump  # imports kdumpfile

        examined = examine(paths, self._show_life, memory)
        restrain(examined.bitmap_bytes, examined.window_bytes)
        self._dump = Dump(examined)
        self._overwritten = self._dump.overwritten
        info = self._dump.info()
        self.threads = _cpu_threads(info.registers)
        self.reply(HELLO, json.dumps(asdict(info)).encode())

    @property
    def registers(self) -> RegisterSet:
        """Those of the dump's machine."""
        return self._dump.arch.registers

    def _show_life(self) -> None:
        """Tell the client that opening goes on: it does not wait forever for one that says nothing."""
        now = time.monotonic()
        if now - self._sign > _SIGN_SECONDS:
            self._sign = now
            self._to_client.append(REPLY.pack(HELLO, Status.MORE))
            self._send_to_client()

    def read_memory(self, addr: int, size: int) -> bytes:
        """The bytes at `addr` up to the first hole: rsp.Target."""
        size = min(size, max(0, _TOP - addr))
        try:
            runs = self._dump.read(addr, size)
        except DumpError:  # GDB has no words for it; the client gets them on the bulk channel
            return b""
        return runs[0] if runs and isinstance(runs[0], bytes) else b""

    def reply(self, number: int, body: bytes, status: Status = Status.OK) -> None:
        """Queue the answer to request `number`, in as many messages as it takes."""
        self._warn()
        while len(body) > MAX_BODY:
            self._to_client.append(REPLY.pack(number, Status.MORE) + body[:MAX_BODY])
            body = body[MAX_BODY:]
        self._to_client.append(REPLY.pack(number, status) + body)
        self._send_to_client()

    def drain(self) -> None:
        """Wait until the client has taken everything: for the last words of a server that cannot start."""
        self._channel.setblocking(True)
        self._send_to_client()

    def run(self) -> None:
        """Answer until GDB or the client has gone."""
        poll = select.poll()
        self._listener.setblocking(False)
        poll.register(self._listener, select.POLLIN)
        while not self._over:
            workers = self._hear_workers(poll)
            # A client that does not take its answers gets no new ones, but must not keep GDB from its own.
            poll.register(self._channel, select.POLLOUT if self._to_client else select.POLLIN)
            if self._gdb:
                poll.register(self._gdb, select.POLLOUT if self._to_gdb else select.POLLIN)
            for descriptor, _ in poll.poll():
                if descriptor == self._channel.fileno():
                    self._serve_client()
                elif self._gdb and descriptor == self._gdb.fileno():
                    self._serve_gdb()
                elif descriptor == self._listener.fileno():
                    self._accept(poll)
                elif descriptor in workers:
                    self._serve_worker(descriptor)
            for descriptor in workers:
                poll.unregister(descriptor)
        self._stop_search(0, b"")

    def _hear_workers(self, poll: select.poll) -> tuple[int, ...]:
        """Register those that search, unless the client has not yet taken what they had; their descriptors."""
        workers = tuple(self._search[1].workers) if self._search and not self._to_client else ()
        for descriptor in workers:
            poll.register(descriptor, select.POLLIN)
        return workers

    def _serve_worker(self, descriptor: int) -> None:
        if self._search is None or descriptor not in self._search[1].workers:  # it was stopped in this very round
            return
        number, search = self._search
        for body in search.take(descriptor):
            self.reply(number, body, Status.MORE)
        if not search.workers:
            self._search = None
            self.reply(number, b"")

    def _warn(self) -> None:
        """Tell the client, once, that the dump was written to while it was open."""
        sentence = self._overwritten()
        if sentence:
            self._overwritten = lambda: None
            self.reply(NOTICE, sentence.encode(errors="backslashreplace"))

    def _accept(self, poll: select.poll) -> None:
        """Take the connection of the process that started us, and no other before or after it."""
        caller, _ = self._listener.accept()
        pid, _, _ = _PEER.unpack(caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if pid != self._parent:
            caller.close()
            return
        self._gdb = caller
        self._gdb.setblocking(False)
        poll.unregister(self._listener)
        self._listener.close()

    def _serve_client(self) -> None:
        if self._to_client:
            self._send_to_client()
            return
        try:
            request = self._channel.recv(MAX_MESSAGE)
        except ConnectionError:
            request = b""
        if not request:
            self._over = True
            return
        number, op = REQUEST.unpack_from(request)
        try:
            handler = _HANDLERS.get(op)
            if handler is None:
                raise DumpError(f"request {op} is unknown to this dump server")
            body = handler(self, number, request[REQUEST.size :])
            if body is not None:  # else it comes later
                self.reply(number, body)
        except DumpError as error:
            self.reply(number, str(error).encode(errors="backslashreplace"), Status.ERROR)

    def _read(self, _: int, body: bytes) -> bytes:
        addr, size = READ.unpack(body)
        if size > MAX_READ:
            raise DumpError(f"a read of {size} bytes is too large")
        return pack_runs(self._dump.read(addr, size))

    def _gather(self, _: int, body: bytes) -> bytes:
        offset, size = GATHER.unpack_from(body)
        objects = integers("Q", body[GATHER.size :])
        _check_many(size, len(objects))
        return pack_pieces(*gather(self._dump.read, objects, offset, size))

    def _follow(self, number: int, body: bytes) -> bytes:
        """Reply with each block of nodes but the last, which is returned."""
        first, stop, limit = FOLLOW.unpack_from(body)
        pieces: list[Piece] = list(PIECE.iter_unpack(body[FOLLOW.size :]))
        if not 0 < len(pieces) <= MAX_PIECES or pieces[0][1] != ADDRESS.size:
            raise DumpError(f"the first piece of a node must be a pointer, and there may be {MAX_PIECES}")
        _check_many(sum(size for _, size in pieces), limit)
        for offset, size in pieces:
            _check_many(offset + size, limit)
        last = b""
        for block in follow(self._dump.read, first, stop, pieces, limit):
            if last:
                self.reply(number, last, Status.MORE)  # the client looks at these while the next are read
            last = block
        return last

    def _set_direct_map(self, _: int, body: bytes) -> bytes:
        self._dump.set_direct_map(*ADDRESS.unpack(body))
        return b""

    def _look_for_direct_map(self, _: int, __: bytes) -> bytes:
        return json.dumps(self._dump.look_for_direct_map()).encode()

    def _use_vmcoreinfo(self, _: int, body: bytes) -> bytes:
        return json.dumps(self._dump.use_vmcoreinfo(body.decode(errors="replace"))).encode()

    def _find_kernel(self, _: int, body: bytes) -> bytes:
        request = json.loads(body)
        banner = bytes.fromhex(request["banner"])
        return json.dumps(self._dump.find_kernel(banner, request["symbols"], request["kaslr_offset"])).encode()

    def _take_threads(self, _: int, body: bytes) -> bytes:
        request = json.loads(body)
        if request["first"]:
            self._arriving = []
        frame = request["frame"]
        for number, name, core, registers in request["threads"]:
            if isinstance(registers, int):
                registers = SavedRegisters(self.read_memory, registers, *frame)
            self._arriving.append(GdbThread(number, name, core, registers))
        if request["commit"]:
            if not self._arriving:
                raise DumpError("a thread list must have a thread")
            self.threads = ThreadTable(self._arriving, request["selected"])
            self._arriving = []
        return b""

    def _take_ranges(self, _: int, body: bytes) -> bytes:
        self._ranges += RANGE.iter_unpack(body)
        return b""

    def _begin_search(self, number: int, body: bytes) -> bytes | None:
        self._stop_search(number, b"")
        request, ranges, self._ranges = json.loads(body), self._ranges, []
        pattern = matcher(pattern_from_json(request["pattern"]))
        search = Search(self._dump, request["physical"], pattern, ranges, self._forget)
        if not search.workers:
            return b""
        self._search = number, search
        return None

    def _stop_search(self, _: int, __: bytes) -> bytes:
        if self._search is not None:
            self._search[1].stop()
            self._search = None
        return b""

    def _forget(self) -> None:
        """Close the sockets, in a child: GDB and the client must see when this process has ended."""
        for one in (self._channel, self._listener, self._gdb):
            if one is not None:
                one.close()

    def _mapped(self, _: int, body: bytes) -> bytes:
        start, size = RANGE.unpack(body)
        return pack_mappings(self._dump.mapped(start, start + size))

    def _serve_gdb(self) -> None:
        assert self._gdb
        try:
            if not self._to_gdb:
                received = self._gdb.recv(_RECEIVE)
                if not received:
                    self._over = True
                    return
                self._to_gdb = self._stub.feed(received)
                self._warn()
            self._to_gdb = self._to_gdb[self._gdb.send(self._to_gdb) :] if self._to_gdb else b""
        except BlockingIOError:
            pass
        except ConnectionError:
            self._over = True
        self._over |= self._stub.closed and not self._to_gdb

    def _send_to_client(self) -> None:
        try:
            while self._to_client:
                self._channel.send(self._to_client[0])
                self._to_client.popleft()
        except BlockingIOError:
            pass
        except ConnectionError:
            self._over = True
            self._to_client.clear()


# What each request is answered with, given its number and body.
_HANDLERS: dict[int, Callable[[DumpServer, int, bytes], bytes | None]] = {
    Op.READ: DumpServer._read,
    Op.THREADS: DumpServer._take_threads,
    Op.DIRECT_MAP: DumpServer._set_direct_map,
    Op.FIND_DIRECT_MAP: DumpServer._look_for_direct_map,
    Op.FOLLOW: DumpServer._follow,
    Op.GATHER: DumpServer._gather,
    Op.VMCOREINFO: DumpServer._use_vmcoreinfo,
    Op.FIND_KERNEL: DumpServer._find_kernel,
    Op.RANGES: DumpServer._take_ranges,
    Op.SEARCH: DumpServer._begin_search,
    Op.STOP_SEARCH: DumpServer._stop_search,
    Op.MAPPED: DumpServer._mapped,
}


def _cpu_threads(registers: list[dict[str, int]]) -> ThreadTable:
    """One thread per CPU: what GDB sees until the client knows better."""
    threads = [GdbThread(cpu + 1, f"CPU {cpu}", cpu, known) for cpu, known in enumerate(registers)]
    return ThreadTable(threads or [GdbThread(1, "no registers", None, {})], 1)


def _raw_memory(words: str) -> RawMemory | None:
    """What a file of no known form may be: "" for a refusal, else "raw" or "raw START END"."""
    if not words:
        return None
    _, *ends = words.split()
    return RawMemory((int(ends[0]), int(ends[1])) if ends else None)


def _check_many(size: int, count: int) -> None:
    if not 0 < size <= MAX_NODE or count > MAX_NODES:
        raise DumpError(f"{count} pieces of {size} bytes cannot be asked for at once")


def main(channel_fd: str, listener_fd: str, parent: str, memory: str, *vmcores: str) -> int:
    die_with(int(parent))
    keep_secrets()
    for descriptor in (channel_fd, listener_fd):
        os.set_inheritable(int(descriptor), False)
    server = DumpServer(socket.socket(fileno=int(channel_fd)), socket.socket(fileno=int(listener_fd)), int(parent))
    try:
        server.open(list(vmcores), _raw_memory(memory))
    except ImportError as error:
        server.reply(HELLO, f"{sys.executable}: {error}".encode(), Status.NO_LIBRARY)
        server.drain()
        return 0
    except DumpError as error:
        server.reply(HELLO, str(error).encode(errors="backslashreplace"), Status.ERROR)
        server.drain()
        return 0
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
