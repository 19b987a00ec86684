"""The kernel's message buffer: the ring of v5.10 and later, the records of v3.5 to v5.9, and the bytes before."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gdb_kdump.errors import Corrupt, Unreadable
from gdb_kdump.kernel.logbytes import for_each_line, has_log_bytes
from gdb_kdump.session import Session

# enum desc_state of kernel/printk/printk_ringbuffer.h: the two states in which a record's text is complete.
_COMPLETE = (1, 2)  # desc_committed, desc_finalized
_DESC_STATE_BITS = 2
_MOST_BITS = 32  # of a number of records or bytes: kernel/printk/printk.c: LOG_BUF_LEN_MAX is 2 GiB

_OOPS = re.compile(
    r"BUG: |kernel BUG at |Oops: |general protection fault|divide error: |double fault: |invalid opcode: "
    r"|stack segment: |Unable to handle|unable to handle"
)
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
        if has_log_bytes(self._session):
            return (Record(seq, *line) for seq, line in enumerate(for_each_line(self._session)))
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
        bits, self._descs, self._infos, self._head, self._tail = unpacker.unpack_from(
            *memory.block(desc_ring, unpacker.span)
        )
        self._mask = (1 << _checked(ring, bits)) - 1
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
        number = self._tail & id_mask
        for _ in range(self._mask + 1):
            record = self._read(number, id_mask)
            if record is not None:
                yield record
            if number == self._head & id_mask:
                return
            number = number + 1 & id_mask

    def _read(self, number: int, id_mask: int) -> Record | None:
        index = number & self._mask
        desc = self._descs + index * self._desc.size
        state_var, begin, following = self._desc.unpack_from(*self._memory.block(desc, self._desc.span))
        state_var &= (1 << 8 * self._id_size) - 1
        if state_var & id_mask != number or state_var >> 8 * self._id_size - _DESC_STATE_BITS not in _COMPLETE:
            return None
        info = self._infos + index * self._info.size
        seq, ts_nsec, level, length = self._info.unpack_from(*self._memory.block(info, self._info.span))
        return Record(seq, ts_nsec, level, self._text(begin, following, length))

    def _text(self, begin: int, following: int, length: int) -> bytes:
        if begin & 1:  # a message without text has odd positions: NO_LPOS, FAILED_LPOS
            return b""
        # A block that would wrap stands at the start of the ring instead.
        wraps = begin // self._size != following // self._size and following % self._size
        at = 0 if wraps else begin % self._size
        length = min(length, self._size - at - self._id_size)
        return self._memory.read(self._data + at + self._id_size, max(length, 0))


def _checked(ring: int, bits: int) -> int:
    if bits > _MOST_BITS:
        raise Corrupt(ring, f"a message buffer of 2^{bits} elements")
    return bits


def _for_each_printk_log(session: Session) -> Iterator[Record]:
    """Every message of the record buffer of v3.5 to v5.9; kernel/printk/printk.c: log_from_idx, log_next."""
    memory, address = session.memory, session.debuginfo.address
    unpacker = session.layout.unpacker("printk_log", ("ts_nsec", "len", "text_len", "level"))
    buffer, size = memory.ptr(address("log_buf")), memory.u32(address("log_buf_len"))
    index, following = memory.u32(address("log_first_idx")), memory.u32(address("log_next_idx"))
    seq = memory.u64(address("log_first_seq"))
    for _ in range(size // unpacker.size):
        if index == following:
            return
        ts_nsec, length, text_length, level = unpacker.unpack_from(*memory.block(buffer + index, unpacker.span))
        if length == 0:  # what would not fit before the end stands at the start
            index = 0
            continue
        yield Record(seq, ts_nsec, level, memory.read(buffer + index + unpacker.size, text_length))
        index, seq = index + length, seq + 1
