"""The message buffer as a ring of bytes, as before 7ff9554bb578 (v3.5) printk: convert byte-buffer to variable-length
record buffer; kernel/printk.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gdb_kdump.session import Session

_LINE = re.compile(rb"(?:<(\d+|[cd])>)?(?:\[ *(\d+)\.(\d{6})\] )?(.*)", re.DOTALL)
_DEFAULT_LEVEL = 4  # CONFIG_DEFAULT_MESSAGE_LOGLEVEL


def has_log_bytes(session: Session) -> bool:
    """Whether the kernel keeps its messages in that way."""
    return session.debuginfo.find_address("logged_chars") is not None


def for_each_line(session: Session) -> Iterator[tuple[int, int, bytes]]:
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
        found = _LINE.fullmatch(line)
        assert found is not None  # every part of it is optional
        prefix, seconds, micros, message = found.groups()
        level = int(prefix) & 7 if prefix and prefix.isdigit() else _DEFAULT_LEVEL
        yield (int(seconds) * 10**9 + int(micros) * 1000 if seconds else 0), level, message
