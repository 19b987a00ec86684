"""A bad sk_buff's buffer, drawn: its marks, and the bytes around end with the damaged span marked."""

from __future__ import annotations

from collections.abc import Iterator

import gdb

from gdb_kdump.records.skb import Skb
from gdb_kdump.rules.overrun import Attribution
from gdb_kdump.text import hex16

_BEFORE, _BEHIND = 64, 112  # bytes shown on either side of end


def buffer_text(skb: Skb, damage: Attribution | None) -> Iterator[str]:
    """The lines of the drawing; the payload's bytes are shown only around the damage."""
    marks = (("head", skb.members.head), ("data", skb.members.data), ("tail", skb.tail), ("end, shared info", skb.end))
    yield "  ".join(f"{name} {hex16(addr)} (+{addr - skb.members.head})" for name, addr in marks)
    buffer = skb.buffer()
    if not buffer:
        return
    if not gdb.parameter("kdump payload"):
        yield "the bytes around end are not shown: set kdump payload on"
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
        mark = " <- end" if start <= skb.end - skb.members.head < start + 16 else ""
        yield f"{hex16(skb.members.head + start)}: {cells:49} {printable:16}{mark}"
