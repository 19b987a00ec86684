"""A bad sk_buff's buffer, drawn: its marks, and the bytes around end with the damaged span marked."""

from __future__ import annotations

from collections.abc import Iterator

import gdb

from gdb_kdump.commands.show import terminal
from gdb_kdump.commands.show.styles import ADDRESS, HIGHLIGHT, Line, styled
from gdb_kdump.commands.show.wrapping import wrapped
from gdb_kdump.records.skb import Skb
from gdb_kdump.rules.overrun import Attribution
from gdb_kdump.text import hex16

_BEFORE, _BEHIND = 64, 112  # bytes shown on either side of end
_WIDE = 96  # columns that a line with its address has
_NOT_SHOWN = "the bytes around end are not shown: set kdump payload on"


def buffer_text(skb: Skb, damage: Attribution | None) -> Iterator[str]:
    """The lines of the drawing; the payload's bytes are shown only around the damage."""
    marks = (("head", skb.members.head), ("data", skb.members.data), ("tail", skb.tail), ("end, shared info", skb.end))
    yield from wrapped("  ".join(f"{name} {hex16(addr)} ({addr - skb.members.head:+d})" for name, addr in marks))
    buffer = skb.buffer()
    if not buffer:
        return
    if not gdb.parameter("kdump payload"):
        yield _NOT_SHOWN
        return
    low = max(0, (skb.end - skb.members.head - _BEFORE) & ~15)
    high = min(len(buffer), skb.end - skb.members.head + _BEHIND)
    first, last = (
        (damage.first - skb.members.head, damage.first - skb.members.head + damage.length) if damage else (0, 0)
    )
    for start in range(low, high, 16):
        row = buffer[start : min(start + 16, high)]
        cells = "".join(
            ("[" if at == first and damage else "]" if at == last and damage else " ") + f"{byte:02x}"
            for at, byte in enumerate(row, start)
        )
        printable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        mark = " <- end" if start <= skb.end - skb.members.head < start + 16 and _is_wide() else ""
        label = hex16(skb.members.head + start) if _is_wide() else _offset(start, skb)
        yield f"{label}: {cells:49} {printable:16}{mark}"


def around_end(skb: Skb, damage: Attribution, most: int) -> Iterator[Line]:
    """The line before end and, no more than `most`, those of the damage from end on; on a narrow terminal by offset."""
    buffer, end = skb.buffer(), skb.end - skb.members.head
    if not buffer:
        return
    if not gdb.parameter("kdump payload"):
        yield _NOT_SHOWN
        return
    first = damage.first - skb.members.head
    last = min(first + damage.length, len(buffer))
    for start in range(max(0, end - 16), min(last, end + 16 * most), 16):
        row = buffer[start : start + 16]
        label = f"{hex16(skb.members.head + start)} {_offset(start, skb)}" if _is_wide() else _offset(start, skb)
        cut = [min(max(0, at - start), len(row)) for at in (first, last)]
        before, inside, after = row[: cut[0]], row[cut[0] : cut[1]], row[cut[1] :]
        pad = " " * (3 * (16 - len(row)))
        printable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield styled((label, ADDRESS), ":  ", _spaced(before), (_spaced(inside), HIGHLIGHT), _spaced(after), pad,
                     f" {printable}")  # fmt: skip


def _spaced(data: bytes) -> str:
    return "".join(f"{byte:02x} " for byte in data)


def _offset(at: int, skb: Skb) -> str:
    """Where an offset into the buffer is, seen from end."""
    distance = at - (skb.end - skb.members.head)
    return f"{f'end{distance:+#x}' if distance else 'end':>8}"


def _is_wide() -> bool:
    limit = terminal.columns()
    return limit is None or limit >= _WIDE
