"""GDB's remote serial protocol as a dump needs it: memory, threads and registers to read, nothing to write or run.

The GDB manual's appendix "Remote Protocol" is the reference. The transport is the caller's: bytes in, bytes out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

from gdb_kdump.arch.registers import Register, RegisterSet
from gdb_kdump.text import escape

PACKET_SIZE = 0x20000
"""What GDB is told: the most characters of a packet, hence twice the bytes of the largest memory read."""

_MAX_PENDING = 2 * PACKET_SIZE
_FEW = 16  # one in so many
_REFUSED = b"E01"
_NO_MEMORY = b"E14"
_ESCAPED = {byte: bytes((0x7D, byte ^ 0x20)) for byte in b"#$}*"}


@dataclass(frozen=True)
class GdbThread:
    """A thread as GDB sees it; registers that are not in the mapping are unavailable."""

    id: int
    name: str
    core: int | None
    registers: Mapping[str, int]


class ThreadTable:
    """The threads by id, and the one that GDB selects on connecting."""

    def __init__(self, threads: list[GdbThread], selected: int) -> None:
        self.by_id: dict[int, GdbThread] = {thread.id: thread for thread in threads}
        self.selected = selected if selected in self.by_id else next(iter(self.by_id))
        self._xml: bytes | None = None

    @property
    def xml(self) -> bytes:
        """The answer to qXfer:threads:read."""
        if self._xml is None:
            self._xml = _threads_xml(self.by_id.values())
        return self._xml

    @property
    def first_xml(self) -> bytes:
        """The same with the threads up to the selected one only, where that are few of all."""
        before = [*takewhile(lambda thread: thread.id != self.selected, self.by_id.values())]
        return self.xml if _FEW * len(before) >= len(self.by_id) else _threads_xml([*before, self.by_id[self.selected]])


def _threads_xml(threads: Iterable[GdbThread]) -> bytes:
    lines = ['<?xml version="1.0"?>\n<threads>\n']
    for thread in threads:
        core = "" if thread.core is None else f' core="{thread.core}"'
        lines.append(f'<thread id="{thread.id:x}"{core} name="{xml_text(thread.name)}"/>\n')
    lines.append("</threads>\n")
    return "".join(lines).encode()


class Target(Protocol):
    """What the protocol is about."""

    threads: ThreadTable

    @property
    def registers(self) -> RegisterSet:
        """The machine's."""

    def read_memory(self, addr: int, size: int) -> bytes:
        """The bytes at `addr` up to the first hole, at most `size`."""


def xml_text(text: str) -> str:
    """`text` fit for an XML attribute, control characters spelled out: GDB drops the whole list for one bad name."""
    return escape(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def packet(body: bytes) -> bytes:
    """`body` framed; it must be escaped already."""
    return b"$%b#%02x" % (body, sum(body) & 0xFF)


def escape_binary(data: bytes) -> bytes:
    """Binary data as it may stand in a packet."""
    if not any(byte in data for byte in b"#$}*"):
        return data
    return b"".join(_ESCAPED.get(byte) or bytes((byte,)) for byte in data)


class Stub:
    """The protocol's state for one GDB: give it what GDB sent, send what it returns, end when it is `closed`."""

    def __init__(self, target: Target) -> None:
        self.closed = False
        self._target = target
        self._pending = bytearray()
        self._acks = True
        self._last = b""
        self._thread = 0
        self._to_list: list[int] = []
        self._is_connecting = False
        self._listing = b""

    def feed(self, data: bytes) -> bytes:
        """Take what GDB sent, in pieces of any size; returns what to send."""
        self._pending += data
        out: list[bytes] = []
        while self._pending and not self.closed:
            first = self._pending[0]
            if first != ord("$"):
                # '+' needs nothing; 0x03 asks a running target to stop, and this one never runs.
                del self._pending[0]
                if first == ord("-") and self._acks:
                    out.append(self._last)
                continue
            end = self._pending.find(b"#")
            if end < 0 or end + 2 >= len(self._pending):
                self.closed = len(self._pending) > _MAX_PENDING
                break
            body = bytes(self._pending[1:end])
            checksum = bytes(self._pending[end + 1 : end + 3])
            del self._pending[: end + 3]
            if self._acks:
                if checksum.lower() != b"%02x" % (sum(body) & 0xFF):
                    out.append(b"-")
                    continue
                out.append(b"+")
            answer = self._answer(body)
            if answer is not None:
                self._last = packet(answer)
                out.append(self._last)
        return b"".join(out)

    def _answer(self, body: bytes) -> bytes | None:
        """The reply to one packet: empty for what is not supported, None for what gets no reply."""
        for prefix, handler in _HANDLERS:
            if body.startswith(prefix):
                try:
                    return handler(self, body[len(prefix) :])
                except ValueError:
                    return _REFUSED
        return b""

    def _current(self) -> GdbThread:
        table = self._target.threads
        return table.by_id.get(self._thread) or table.by_id[table.selected]

    def _supported(self, _: bytes) -> bytes:
        return b"PacketSize=%x;qXfer:features:read+;qXfer:threads:read+;QStartNoAckMode+;binary-upload+" % PACKET_SIZE

    def _no_acks(self, _: bytes) -> bytes:
        self._acks = False
        return b"OK"

    def _stopped(self, _: bytes) -> bytes:
        self._is_connecting = True
        return b"T05thread:%x;" % self._target.threads.selected

    def _read_registers(self, _: bytes) -> bytes:
        known = self._current().registers
        return b"".join(_register_value(register, known) for register in self._target.registers.all)

    def _read_register(self, rest: bytes) -> bytes:
        number = _hex(rest)
        registers = self._target.registers.all
        if number >= len(registers):
            return _REFUSED
        return _register_value(registers[number], self._current().registers)

    def _read_memory(self, rest: bytes) -> bytes:
        data = self._memory(rest, (PACKET_SIZE - 16) // 2)
        return data.hex().encode() if data else _NO_MEMORY

    def _read_binary(self, rest: bytes) -> bytes:
        data = self._memory(rest, (PACKET_SIZE - 16) // 2)
        return b"b" + escape_binary(data) if data or rest.endswith(b",0") else _NO_MEMORY

    def _memory(self, rest: bytes, limit: int) -> bytes:
        addr, _, size = rest.partition(b",")
        return self._target.read_memory(_hex(addr), min(_hex(size), limit))

    def _select(self, rest: bytes) -> bytes:
        number = 0 if rest == b"-1" else _hex(rest)  # 0 is any thread, -1 all of them
        if number and number not in self._target.threads.by_id:
            return _REFUSED
        self._thread = number
        return b"OK"

    def _is_alive(self, rest: bytes) -> bytes:
        return b"OK" if _hex(rest) in self._target.threads.by_id else _REFUSED

    def _current_thread(self, rest: bytes) -> bytes:
        return b"" if rest else b"QC%x" % self._current().id  # qCRC is another packet

    def _first_threads(self, _: bytes) -> bytes:
        self._to_list = list(self._target.threads.by_id)
        return self._more_threads(b"")

    def _more_threads(self, _: bytes) -> bytes:
        batch, self._to_list = self._to_list[:1024], self._to_list[1024:]
        return b"m" + b",".join(b"%x" % number for number in batch) if batch else b"l"

    def _thread_name(self, rest: bytes) -> bytes:
        thread = self._target.threads.by_id.get(_hex(rest))
        return escape(thread.name).encode().hex().encode() if thread else _REFUSED

    def _features(self, rest: bytes) -> bytes:
        name, _, window = rest.partition(b":")
        return _slice(self._target.registers.target_xml(), window) if name == b"target.xml" else b"E00"

    def _thread_list(self, rest: bytes) -> bytes:
        window = rest.partition(b":")[2]
        if window.startswith(b"0,"):
            # On connecting GDB asks twice, after "?" and when it shows the stop, and looks through the whole list for
            # each thread that it knows: with 50,000 that takes more than a second.  So it gets few the first time.
            threads = self._target.threads
            self._listing = threads.first_xml if self._is_connecting else threads.xml
            self._is_connecting = False
        return _slice(self._listing, window)

    def _attached(self, _: bytes) -> bytes:
        return b"1"

    def _ok(self, _: bytes) -> bytes:
        return b"OK"

    def _unknown(self, _: bytes) -> bytes:
        return b""

    def _refuse(self, _: bytes) -> bytes:
        return _REFUSED

    def _end(self, _: bytes) -> bytes:
        self.closed = True
        return b"OK"

    def _kill(self, _: bytes) -> None:
        self.closed = True


def _register_value(register: Register, known: Mapping[str, int]) -> bytes:
    value = known.get(register.name)
    if value is None:
        return b"xx" * (register.bits // 8)
    size = register.bits // 8
    return (value & (1 << register.bits) - 1).to_bytes(size, "little").hex().encode()


def _hex(digits: bytes) -> int:
    """A number as GDB writes it; raises ValueError for what only int() takes: signs, spaces, underscores."""
    if digits.strip(b"0123456789abcdefABCDEF"):
        raise ValueError(f"{digits!r} is no number")
    return int(digits, 16)


def _slice(text: bytes, window: bytes) -> bytes:
    """The answer to a qXfer read: `window` is OFFSET,LENGTH, and LENGTH bounds the characters after escaping too."""
    start, _, length = window.partition(b",")
    offset, size = _hex(start), _hex(length)
    part = text[offset : offset + min(size, PACKET_SIZE - 16)]
    while len(escape_binary(part)) > max(size, 2):
        part = part[: len(part) * 3 // 4]
    return (b"m" if offset + len(part) < len(text) else b"l") + escape_binary(part)


# By prefix, the longer before the shorter.
_HANDLERS: tuple[tuple[bytes, Callable[[Stub, bytes], bytes | None]], ...] = (
    (b"qSupported", Stub._supported),
    (b"QStartNoAckMode", Stub._no_acks),
    (b"qXfer:features:read:", Stub._features),
    (b"qXfer:threads:read:", Stub._thread_list),
    (b"qAttached", Stub._attached),
    (b"qThreadExtraInfo,", Stub._thread_name),
    (b"qfThreadInfo", Stub._first_threads),
    (b"qsThreadInfo", Stub._more_threads),
    (b"qSymbol", Stub._ok),
    (b"qC", Stub._current_thread),
    (b"vKill", Stub._end),
    (b"vRun", Stub._refuse),
    (b"vAttach", Stub._refuse),
    (b"vFlash", Stub._refuse),
    (b"?", Stub._stopped),
    (b"g", Stub._read_registers),
    (b"p", Stub._read_register),
    (b"m", Stub._read_memory),
    (b"x", Stub._read_binary),
    (b"Hc", Stub._ok),
    (b"Hg", Stub._select),
    (b"T", Stub._is_alive),
    (b"D", Stub._end),
    (b"k", Stub._kill),
    *((bytes((letter,)), Stub._refuse) for letter in b"MXGPcCsSzZ"),
)
