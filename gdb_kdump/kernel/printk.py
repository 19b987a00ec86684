"""The kernel's message buffer: the ring of v5.10 and later, the records of v3.5 to v5.9, and the bytes before."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gdb_kdump.errors import Corrupt, Unreadable
from gdb_kdump.session import Session

# enum desc_state of kernel/printk/printk_ringbuffer.h: the two states in which a record's text is complete.
_COMPLETE = (1, 2)  # desc_committed, desc_finalized
_DESC_STATE_BITS = 2
_MOST_BITS = 32  # of a number of records or bytes: kernel/printk/printk.c: LOG_BUF_LEN_MAX is 2 GiB

_OOPS = re.compile(
    r"BUG: |kernel BUG at |Oops: |general protection fault|divide error: |double fault: |invalid opcode: "
    r"|stack segment: |Unable to handle|unable to handle"
)
_LINE = re.compile(rb"(?:<(\d+|[cd])>)?(?:\[ *(\d+)\.(\d{6})\] )?(.*)", re.DOTALL)
_DEFAULT_LEVEL = 4  # CONFIG_DEFAULT_MESSAGE_LOGLEVEL
_PANIC = "Kernel panic - not syncing: "


@dataclass(frozen=True)
class Record:
    """One message: sequence number, nanoseconds since boot, syslog level (0-7), text as the kernel has it."""

    seq: int
    ts_nsec: int
    level: int
    text: bytes


class Printk:
    """Reads the message buffer of one session, of whichever kind the kernel has."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def for_each(self) -> Iterator[Record]:
        """Every complete message, oldest first; raises Unreadable, Corrupt, MissingDebugInfo."""
        if self._session.debuginfo.find_address("prb") is not None:
            return _Ring(self._session).for_each()
        if _has_log_bytes(self._session):
            return (Record(seq, *line) for seq, line in enumerate(_for_each_line(self._session)))
        return _for_each_printk_log(self._session)

    def panic_message(self) -> str | None:
        """The line that says best why the machine went down, or None; raises MissingDebugInfo."""
        return find_reason(self._lines())

    def _lines(self) -> Iterator[str]:
        """The first line of every message that can be read."""
        try:
            for record in self.for_each():
                yield record.text.decode("utf-8", "backslashreplace").split("\n", 1)[0]
        except (Unreadable, Corrupt):
            pass  # what was found until there still holds


def find_reason(lines: Iterable[str]) -> str | None:
    """The line of a log that says best why the machine went down, or None; kernel/panic.c: panic."""
    oops = panic = None
    for line in lines:
        if panic == _PANIC:
            panic += line  # PREEMPT_RT of 5.10 prints what panic() was told as a message of its own
        elif line.startswith(_PANIC.rstrip()):
            panic = line if line.startswith(_PANIC) else _PANIC
        elif oops is None and _OOPS.search(line):
            oops = line
    # "Fatal exception" only repeats that there was an oops.
    return oops if oops is not None and (panic is None or "Fatal exception" in panic) else panic or oops


class _Ring:
    """The lockless ring of v5.10 and later; kernel/printk/printk_ringbuffer.c."""

    def __init__(self, session: Session) -> None:
        self._memory = memory = session.memory
        layout = session.layout
        ring = memory.ptr(session.debuginfo.address("prb"))
        desc_ring = ring + layout.offset("printk_ringbuffer.desc_ring")
        text_ring = ring + layout.offset("printk_ringbuffer.text_data_ring")
        unpacker = layout.unpacker("prb_desc_ring", ("count_bits", "descs", "infos", "head_id", "tail_id"))
        count_bits, self._descs, self._infos, self._head_id, self._tail_id = unpacker.unpack_from(
            *memory.block(desc_ring, unpacker.span)
        )
        self._count_mask = (1 << _checked(ring, count_bits)) - 1
        unpacker = layout.unpacker("prb_data_ring", ("size_bits", "data"))
        size_bits, self._data = unpacker.unpack_from(*memory.block(text_ring, unpacker.span))
        self._size = 1 << _checked(ring, size_bits)
        self._desc = layout.unpacker("prb_desc", ("state_var", "begin", "next"))
        self._info = layout.unpacker("printk_info", ("seq", "ts_nsec", "level", "text_len"))
        self._id_size = session.debuginfo.type("unsigned long").sizeof

    def for_each(self) -> Iterator[Record]:
        """Every complete message, oldest first; raises Unreadable; kernel/printk/printk_ringbuffer.c: prb_read."""
        id_bits = 8 * self._id_size
        id_mask = (1 << id_bits - _DESC_STATE_BITS) - 1
        id = self._tail_id & id_mask
        for _ in range(self._count_mask + 1):
            record = self._read(id, id_mask)
            if record is not None:
                yield record
            if id == self._head_id & id_mask:
                return
            id = id + 1 & id_mask

    def _read(self, id: int, id_mask: int) -> Record | None:
        """The record of a descriptor ID, or None where it is not complete; desc_read_finalized_seq."""
        index = id & self._count_mask
        desc = self._descs + index * self._desc.size
        state_var, lpos_begin, lpos_next = self._desc.unpack_from(*self._memory.block(desc, self._desc.span))
        state_var &= (1 << 8 * self._id_size) - 1
        if state_var & id_mask != id or state_var >> 8 * self._id_size - _DESC_STATE_BITS not in _COMPLETE:
            return None
        info = self._infos + index * self._info.size
        seq, ts_nsec, level, text_len = self._info.unpack_from(*self._memory.block(info, self._info.span))
        return Record(seq, ts_nsec, level, self._text(lpos_begin, lpos_next, text_len))

    def _text(self, lpos_begin: int, lpos_next: int, text_len: int) -> bytes:
        """The text of a data block, which begins with its ID; get_data."""
        if lpos_begin & 1:  # a message without text has odd positions: NO_LPOS, FAILED_LPOS
            return b""
        # A block that would wrap stands at the start of the ring instead.
        wraps = lpos_begin // self._size != lpos_next // self._size and lpos_next % self._size
        block = 0 if wraps else lpos_begin % self._size
        text_len = min(text_len, self._size - block - self._id_size)
        return self._memory.read(self._data + block + self._id_size, max(text_len, 0))


def _checked(ring: int, bits: int) -> int:
    if bits > _MOST_BITS:
        raise Corrupt(ring, f"a message buffer of 2^{bits} elements")
    return bits


def _for_each_printk_log(session: Session) -> Iterator[Record]:
    """Every message of the record buffer of v3.5 to v5.9; kernel/printk/printk.c: log_from_idx, log_next."""
    memory, address = session.memory, session.debuginfo.address
    unpacker = session.layout.unpacker("printk_log", ("ts_nsec", "len", "text_len", "level"))
    buffer, size = memory.ptr(address("log_buf")), memory.u32(address("log_buf_len"))
    index, next_idx = memory.u32(address("log_first_idx")), memory.u32(address("log_next_idx"))
    seq = memory.u64(address("log_first_seq"))
    for _ in range(size // unpacker.size):
        if index == next_idx:
            return
        ts_nsec, length, text_len, level = unpacker.unpack_from(*memory.block(buffer + index, unpacker.span))
        if length == 0:  # what would not fit before the end stands at the start
            index = 0
            continue
        yield Record(seq, ts_nsec, level, memory.read(buffer + index + unpacker.size, text_len))
        index, seq = index + length, seq + 1


def _has_log_bytes(session: Session) -> bool:
    """Whether the buffer is one of bytes.

    7ff9554bb578 (v3.5) printk: convert byte-buffer to variable-length record buffer.
    """
    return session.debuginfo.find_address("logged_chars") is not None


def _for_each_line(session: Session) -> Iterator[tuple[int, int, bytes]]:
    """(nanoseconds since boot, or 0 without printk.time; syslog level; text) of every line, oldest first.

    Raises Unreadable, MissingDebugInfo; kernel/printk.c: do_syslog, emit_log_char.
    """
    memory, address = session.memory, session.debuginfo.address
    size, end = memory.u32(address("log_buf_len")), memory.u32(address("log_end"))
    count = min(memory.u32(address("logged_chars")), size)
    if not count:
        return
    ring = memory.read(memory.ptr(address("log_buf")), size)
    start = (end - count) % size
    text = (ring + ring)[start : start + count]
    for line in text.removesuffix(b"\n").split(b"\n"):
        parts = _LINE.fullmatch(line)
        assert parts is not None  # every part of it is optional
        prefix, seconds, micros, message = parts.groups()
        level = int(prefix) & 7 if prefix and prefix.isdigit() else _DEFAULT_LEVEL
        yield (int(seconds) * 10**9 + int(micros) * 1000 if seconds else 0), level, message
