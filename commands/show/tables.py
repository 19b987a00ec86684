"""Tables for people: aligned, escaped, fit for a ticket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from tabulate import tabulate

from gdb_kdump import walks
from gdb_kdump.commands.show import terminal
from gdb_kdump.commands.show.fitting import BETWEEN, Columns, in_cells, narrower
from gdb_kdump.text import escape

_ROWS_AT_ONCE = 1000  # between two such portions Ctrl-C is heard
_MARGIN = 2  # what a column is wider than its header


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]], right: Sequence[str] = ()) -> Iterator[str]:
    """The lines of a table; columns named in `right` are aligned to the right.

    On a terminal they fit it, as far as that can be: cells have several lines then.
    After Ctrl-C those that there is time for, the later ones perhaps wider.
    """
    align = ["right" if header in right else "left" for header in headers]
    portions = _portions(chain([headers], rows))
    widths = [len(header) + _MARGIN for header in headers]
    limit = terminal.columns()
    fits = True
    if not walks.is_interrupted():
        whole = _all_of(portions, widths)
        portions = iter(whole)
        fits = limit is None or sum(widths) + BETWEEN * (len(widths) - 1) <= limit
        if limit is not None and not fits:
            widths = narrower(whole, widths, limit)
    for columns in walks.shown(portions):
        if fits:
            _widen(widths, columns)
        else:
            columns = in_cells(columns, widths)
        # tabulate looks at every cell in a dozen ways: one cell of many lines is six times as fast as many cells.
        # The ruler makes all portions equally wide, and keeps it from stripping empty cells away.
        cells = ["\n".join(("-" * width, *column)) for width, column in zip(widths, columns)]
        text = tabulate([cells], tablefmt="plain", disable_numparse=True, colalign=align)
        yield from (line.rstrip() for line in text.splitlines()[1:])


def pairs(rows: Sequence[tuple[str, Any]]) -> Iterator[str]:
    """Lines `NAME: value`, names aligned to the right as crash does."""
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        yield f"{name:>{width}}: {escape(str(value))}"


def _portions(rows: Iterable[Sequence[Any]]) -> Iterator[Columns]:
    """The cells as they are shown, column by column, of some rows at a time."""
    iterator = iter(rows)
    while portion := list(islice(iterator, _ROWS_AT_ONCE)):
        yield list(zip(*(["" if cell is None else escape(str(cell)) for cell in row] for row in portion)))


def _all_of(portions: Iterator[Columns], widths: list[int]) -> list[Columns]:
    """All portions, or those that were made when Ctrl-C came; `widths` become what they need."""
    taken: list[Columns] = []
    try:
        for columns in portions:
            _widen(widths, columns)
            taken.append(columns)
    except KeyboardInterrupt:
        walks.interrupt()
    return taken


def _widen(widths: list[int], columns: Columns) -> None:
    widths[:] = [max(width, *map(len, column)) for width, column in zip(widths, columns)]
