"""Tables for people: aligned, escaped, fit for a ticket."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tabulate import tabulate

from gdb_kdump.text import escape


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[str] = ()) -> Iterator[str]:
    """The lines of a table; columns named in `right` are aligned to the right."""
    cells = [["" if cell is None else escape(str(cell)) for cell in row] for row in rows]
    align = ["right" if header in right else "left" for header in headers]
    # numparse would turn an address into a float and a PID of 007 into 7.
    text = tabulate(cells, headers, tablefmt="plain", disable_numparse=True, colalign=align if cells else None)
    return (line.rstrip() for line in text.splitlines())


def pairs(rows: Sequence[tuple[str, Any]]) -> Iterator[str]:
    """Lines `NAME: value`, names aligned to the right as crash does."""
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        yield f"{name:>{width}}: {escape(str(value))}"
