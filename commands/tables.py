"""Tables for people: aligned, escaped, fit for a ticket."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gdb_kdump.text import escape

_GAP = "  "


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[str] = ()) -> Iterator[str]:
    """The lines of a table; columns named in `right` are aligned to the right.

    It is done by hand because a dump can have tens of thousands of tasks, and a queue a million sk_buffs.
    """
    cells = [["" if cell is None else escape(str(cell)) for cell in row] for row in rows]
    # Two more than the header needs: columns of short values stay apart.
    widths = [max(len(column[0]) + len(_GAP), *map(len, column)) for column in zip(headers, *cells)]
    line = _GAP.join(f"{{:{'>' if header in right else '<'}{width}}}" for header, width in zip(headers, widths))
    yield line.format(*headers).rstrip()
    yield from (line.format(*row).rstrip() for row in cells)


def pairs(rows: Sequence[tuple[str, Any]]) -> Iterator[str]:
    """Lines `NAME: value`, names aligned to the right as crash does."""
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        yield f"{name:>{width}}: {escape(str(value))}"
