"""Asks the dump server for memory, and what else only it knows: the client side of the bulk channel."""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import subprocess
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple
from typing import Any
from weakref import WeakValueDictionary

from gdb_kdump.channel.spawn import NoLibrary, interpreters, spawn
from gdb_kdump.channel.wire import (
    ADDRESS,
    FOLLOW,
    GATHER,
    HELLO,
    MAX_BODY,
    MAX_MESSAGE,
    MAX_READ,
    MOST_RANGES,
    NOTICE,
    PIECE,
    RANGE,
    READ,
    REPLY,
    REQUEST,
    Found,
    Op,
    Piece,
    Status,
    unpack_found,
    unpack_mappings,
    unpack_pieces,
    unpack_runs,
)
from gdb_kdump.errors import DumpError, Why
from gdb_kdump.installing import LIBRARY, how_to_install
from gdb_kdump.records.dump_info import DumpInfo
from gdb_kdump.records.patterns import Pattern, pattern_to_json
from gdb_kdump.records.runs import Run
from gdb_kdump.records.search import SearchedPart
from gdb_kdump.records.threads import SavedFrame, Thread

_SLICE_MS = 200  # GDB hands Ctrl-C to Python between bytecodes only, so no wait may be one long system call
_REAP_SECONDS = 2
_STDERR_TAIL = 4096
_REMEDY = "run `target kdump` again"
_DAMAGE = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)


class Answer:
    """The answer to a request, as it comes in; an Answer that is dropped is not waited for."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.messages: deque[bytes] = deque()  # those that came while another answer was waited for


class Server:
    """One dump server process and the bulk channel to it."""

    def __init__(
        self, vmcores: Sequence[str], interpreter: str, open_timeout: float, read_timeout: float, memory: str = ""
    ) -> None:
        self._read_timeout = read_timeout
        self._sequence = HELLO
        self._vmcore = vmcores[0]
        self._doing = f"opening {' '.join(vmcores)}"
        self._obituary: str | None = None
        self._awaited: WeakValueDictionary[int, Answer] = WeakValueDictionary()
        self._notices: list[str] = []
        self._process, self._channel, self._socket_fd, self._stderr = spawn(interpreter, vmcores, memory)
        self._poll = select.poll()
        self._poll.register(self._channel, select.POLLIN)
        try:
            self._info = DumpInfo.from_json(json.loads(self._receive(self._await(HELLO), open_timeout)))
        except BaseException:  # Ctrl-C too: no caller has it yet to close it
            self.close()
            raise

    @classmethod
    def start(cls, *vmcores: str, open_timeout: float = 60.0, read_timeout: float = 60.0, memory: str = "") -> Server:
        """Start a server for the dump in the files `vmcores`; timeouts in seconds, without a word from the server.

        With `memory` a file of no known form may be physical memory as it is: "raw", or "raw START END", decimal
        addresses, where the user knows between which there is none.
        The interpreter is $KDUMP_PYTHON, or the first of several that can import kdumpfile.
        Raises DumpError when the dump cannot be opened, or when no interpreter has libkdumpfile.
        """
        refusals = []
        for interpreter in interpreters():
            try:
                paths = [os.path.abspath(path) for path in vmcores]
                return cls(paths, interpreter, open_timeout, read_timeout, memory)
            except NoLibrary as refusal:
                refusals.append(str(refusal))
        raise DumpError(
            f"no Python here has libkdumpfile: {how_to_install([LIBRARY])}, or set KDUMP_PYTHON to a Python that can "
            f"import kdumpfile ({'; '.join(refusals)})"
        )

    def info(self) -> DumpInfo:
        """What the dump says of itself."""
        return self._info

    @property
    def socket_path(self) -> str:
        """The path for GDB's `target remote`: valid in this process only, for one connection, until `drop_socket`."""
        if self._socket_fd < 0:
            raise DumpError(f"the dump server takes one connection only: {_REMEDY}")
        return f"/proc/self/fd/{self._socket_fd}"

    @property
    def alive(self) -> bool:
        """Whether the server process still runs."""
        return self._obituary is None and self._process.poll() is None

    @property
    def crashed(self) -> bool:
        """Whether the server process ended other than by being told to."""
        if self._obituary is None and any(event & select.POLLHUP for _, event in self._poll.poll(0)):
            # It has let go of its sockets, and may still be on its way out.
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_REAP_SECONDS)
        return self._process.poll() not in (None, 0)

    def check(self) -> None:
        """Raise DumpError, with the reason, when the server is gone."""
        if self._obituary is None and self._process.poll() is not None:
            raise self._died()
        if self._obituary is not None:
            raise DumpError(f"the dump server {self._obituary}: {_REMEDY}")

    def take_notices(self) -> list[str]:
        """What the server has to say without having been asked, each sentence once.

        Raises DumpError when the server is gone.
        """
        while self._obituary is None and self._poll.poll(0):
            self._keep(self._message(0))
        notices, self._notices = self._notices, []
        return notices

    def read(self, addr: int, size: int) -> list[Run]:
        """Read `size` (at most MAX_READ) bytes at virtual address `addr`: bytes and holes, in order of address.

        Raises DumpError when the server is gone, or does not answer in time.
        """
        if size > MAX_READ or addr < 0 or addr + size > 1 << 64:
            raise ValueError(f"a read of {size} bytes at {addr:#x} cannot be asked for")
        self._doing = f"reading 0x{addr:016x}"
        return unpack_runs(self._ask(Op.READ, READ.pack(addr, size)))

    def begin_follow(self, first: int, stop: int, pieces: Sequence[Piece], limit: int) -> Answer:
        """Ask for the nodes of a list, as bulk.follow gives them; `blocks` takes the answer.  Raises DumpError."""
        self._doing = f"following a list from 0x{first:016x}"
        return self._begin(Op.FOLLOW, FOLLOW.pack(first, stop, limit) + b"".join(PIECE.pack(*p) for p in pieces))

    def blocks(self, answer: Answer) -> Iterator[bytes]:
        """The answer to `begin_follow`, as it comes.  Raises DumpError as `read` does."""
        return self._bodies(answer, self._read_timeout)

    def begin_gather(self, objects: Sequence[int], offset: int, size: int) -> Answer:
        """Ask for the `size` bytes at `offset` of each of some objects (addresses); `pieces` takes the answer.

        Raises DumpError as `read` does.
        """
        self._doing = f"reading of {len(objects)} objects from 0x{objects[0]:016x} on"
        return self._begin(Op.GATHER, GATHER.pack(offset, size) + struct.pack(f"<{len(objects)}Q", *objects))

    def pieces(self, answer: Answer) -> tuple[bytes, dict[int, Why]]:
        """The answer to `begin_gather`: the bytes one after the other, and by index why some are zeros instead.

        Raises DumpError as `read` does.
        """
        return unpack_pieces(b"".join(self._bodies(answer, self._read_timeout)))

    def begin_search(self, pattern: Pattern, ranges: Sequence[tuple[int, int]], physical: bool) -> Answer:
        """Have ranges (addresses and bytes) searched; `found` takes the answer, and there is one search at a time.

        Raises DumpError as `read` does.
        """
        self._doing = "searching the dump"
        for first in range(0, len(ranges), MOST_RANGES):
            self._ask(Op.RANGES, b"".join(RANGE.pack(*one) for one in ranges[first : first + MOST_RANGES]))
        request = {"physical": physical, "pattern": pattern_to_json(pattern)}
        return self._begin(Op.SEARCH, json.dumps(request).encode())

    def found(self, answer: Answer) -> Generator[SearchedPart, None, None]:
        """The answer to `begin_search`, as it comes.

        Raises DumpError as `read` does, and where the dump cannot be searched.
        """
        for body in self._bodies(answer, self._read_timeout):
            if body and body[0] == Found.ERROR:
                raise DumpError(body[1:].decode(errors="replace"))
            if body:
                yield unpack_found(body)

    def stop_search(self) -> None:
        """Have the last search ended where it is; harmless when it has ended.  Raises DumpError as `read` does."""
        self._ask(Op.STOP_SEARCH, b"")

    def mapped(self, start: int, size: int) -> list[tuple[int, int, int | Why]]:
        """What the kernel's page tables map of some addresses: each piece with its address, bytes, physical address.

        In place of the latter, why a table cannot be read.  Raises DumpError as `read` does.
        """
        self._doing = f"reading the page tables of 0x{start:016x}"
        return unpack_mappings(self._ask(Op.MAPPED, RANGE.pack(start, size)))

    def set_threads(self, threads: Iterable[Thread], selected: int, frame: SavedFrame | None = None) -> None:
        """Replace the threads that GDB will see; `selected` is the id of the one that it will select on connecting.

        Raises DumpError as `read` does.
        """
        self._doing = "taking the thread list"
        head = {"selected": selected, "frame": list(astuple(frame)) if frame else []}
        for request in _thread_requests(threads, head):
            self._ask(Op.THREADS, request)

    def set_direct_map(self, base: int) -> None:
        """Say where the direct map of physical memory is: the address of physical address 0.

        A truncated dump that has lost page tables shows what it still has after this, and only after this, so it must
        come before the first read of such an address. Raises DumpError as `read` does.
        """
        self._doing = "taking the direct map's address"
        self._ask(Op.DIRECT_MAP, ADDRESS.pack(base))

    def look_for_direct_map(self) -> bool:
        """Have the direct map looked for and used from now on; whether it was found.  Raises DumpError as `read` does.

        For a dump that has lost the variable that says it.
        """
        self._doing = "looking for the direct map"
        return bool(json.loads(self._ask(Op.FIND_DIRECT_MAP, b"")))

    def use_vmcoreinfo(self, text: str) -> bool:
        """Have virtual addresses translated by this VMCOREINFO; whether it says enough for that.

        Raises DumpError as `read` does.
        """
        self._doing = "taking a VMCOREINFO"
        return bool(json.loads(self._ask(Op.VMCOREINFO, text.encode()[:MAX_BODY])))

    def find_kernel(self, banner: bytes, symbols: Mapping[str, int], kaslr_offset: int | None) -> int:
        """Have the kernel looked for in physical memory, to translate by its own page tables; its KASLR offset.

        Of a vmlinux: the text of linux_banner, and the link-time addresses of the symbols that its architecture
        locates it by; and the KASLR offset in bytes where the user knows it.
        Raises DumpError when the kernel is not found, and as `read` does.
        """
        self._doing = "looking for the kernel"
        request = {"banner": banner.hex(), "symbols": dict(symbols), "kaslr_offset": kaslr_offset}
        return int(json.loads(self._ask(Op.FIND_KERNEL, json.dumps(request).encode())))

    def close(self) -> None:
        """End the server and leave nothing behind; harmless when repeated."""
        if self._obituary is None:
            self._obituary = "was closed"
        self._channel.close()
        self.drop_socket()
        self._process.kill()
        try:
            self._process.wait(timeout=_REAP_SECONDS)
        except subprocess.TimeoutExpired:  # stuck in the kernel, on a dead NFS server: it goes when that lets it go
            pass
        self._stderr.close()

    def drop_socket(self) -> None:
        """Forget the socket's path: to be called when GDB has connected."""
        if self._socket_fd >= 0:
            os.close(self._socket_fd)
            self._socket_fd = -1

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, op: Op, body: bytes) -> bytes:
        return self._receive(self._begin(op, body), self._read_timeout)

    def _begin(self, op: Op, body: bytes) -> Answer:
        if self._obituary is not None:
            self.check()
        self._sequence = self._sequence % (NOTICE - 1) + 1
        try:
            self._channel.send(REQUEST.pack(self._sequence, op) + body)
        except OSError:
            raise self._died() from None
        return self._await(self._sequence)

    def _await(self, number: int) -> Answer:
        answer = self._awaited[number] = Answer(number)
        return answer

    def _receive(self, answer: Answer, timeout: float) -> bytes:
        return b"".join(self._bodies(answer, timeout))

    def _bodies(self, answer: Answer, timeout: float) -> Iterator[bytes]:
        """The bodies of the messages that answer a request, as they come."""
        while True:
            message = answer.messages.popleft() if answer.messages else self._message(timeout)
            number, status = REPLY.unpack_from(message)
            if number != answer.number:
                self._keep(message)
                continue
            body = message[REPLY.size :]
            if status not in (Status.OK, Status.MORE):
                sentence = body.decode(errors="replace")
                raise (NoLibrary if status == Status.NO_LIBRARY else DumpError)(sentence)
            yield body
            if status == Status.OK:
                return

    def _keep(self, message: bytes) -> None:
        """Put aside what came while something else was waited for."""
        number, _ = REPLY.unpack_from(message)
        if number == NOTICE:
            self._notices.append(message[REPLY.size :].decode(errors="replace"))
            return
        other = self._awaited.get(number)
        if other is not None:  # else it answers a request that Ctrl-C cut short
            other.messages.append(message)

    def _message(self, timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        while not self._poll.poll(_SLICE_MS):
            if time.monotonic() > deadline:
                raise self._hung(timeout)
        try:
            message = self._channel.recv(MAX_MESSAGE)
        except OSError:
            message = b""
        if not message:
            raise self._died()
        return message

    def _hung(self, timeout: float) -> DumpError:
        self._obituary = f"did not answer for {timeout:g} s while {self._doing}, and was stopped"
        self._process.kill()
        return DumpError(f"the dump server {self._obituary}: {_REMEDY}")

    def _died(self) -> DumpError:
        try:
            status = self._process.wait(timeout=_REAP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        last_words = self._last_words()
        if status < 0:
            end = signal.Signals(-status)
            how = f"died ({end.name}) while {self._doing}"
            if end in _DAMAGE:
                how += ": libkdumpfile failed on this file, which is damaged or cut short"
            elif end == signal.SIGKILL:
                how += ": something killed it, perhaps for want of memory"
        elif status == 0:
            how = "ended, because GDB detached from the dump"
        else:
            how = f"failed (exit status {status}) while {self._doing}"
        if self._vmcore not in how:
            how += f" ({self._vmcore})"
        self._obituary = how + (f" ({last_words})" if last_words else "")
        return DumpError(f"the dump server {self._obituary}; {_REMEDY}")

    def _last_words(self) -> str:
        end = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, end - _STDERR_TAIL))
        lines = self._stderr.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _thread_requests(threads: Iterable[Thread], head: dict[str, Any]) -> Iterator[bytes]:
    """The THREADS requests that carry `threads`, none larger than a message may be."""
    first, size = True, 0
    batch: list[str] = []
    for thread in threads:
        text = json.dumps([thread.id, thread.name, thread.core, thread.registers], separators=(",", ":"))
        if batch and size + len(text) > MAX_BODY - 1024:
            yield _thread_request(batch, head | {"first": first, "commit": False})
            first, batch, size = False, [], 0
        batch.append(text)
        size += len(text) + 1
    yield _thread_request(batch, head | {"first": first, "commit": True})


def _thread_request(batch: list[str], head: dict[str, Any]) -> bytes:
    return f'{json.dumps(head)[:-1]},"threads":[{",".join(batch)}]}}'.encode()
