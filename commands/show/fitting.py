"""Make a table fit the terminal: narrower columns, and what does not fit a cell on the lines below, in that cell."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from textwrap import TextWrapper

Columns = list[tuple[str, ...]]

BETWEEN = 2  # spaces between two columns
_LEAST = 12  # columns of text are not made narrower than this


def narrower(portions: Sequence[Columns], widths: Sequence[int], limit: int) -> list[int]:
    """The widths of the columns so that a row has `limit` characters, or as few as can be.

    First the room goes that no cell needs, then that of the widest columns which have words to wrap.
    """
    needed = [0] * len(widths)
    words = [0] * len(widths)
    for columns in portions:
        needed = [max(width, *map(len, column)) for width, column in zip(needed, columns)]
        words = [max(word, *map(_longest_word, column)) for word, column in zip(words, columns)]
    room = limit - BETWEEN * (len(widths) - 1)
    fitting = list(widths)
    _take(fitting, needed, room)
    _take(fitting, [min(need, max(word, _LEAST)) for need, word in zip(needed, words)], room)
    return fitting


def _take(widths: list[int], least: Sequence[int], room: int) -> None:
    """Make the widest columns narrower, down to their least widths, until all fit."""
    while sum(widths) > room:
        candidates = [n for n, width in enumerate(widths) if width > least[n]]
        if not candidates:
            return
        widest = max(candidates, key=lambda n: widths[n])
        widths[widest] -= 1


def _longest_word(cell: str) -> int:
    return max(map(len, cell.split()), default=0)


def in_cells(columns: Columns, widths: Sequence[int]) -> Columns:
    """The same columns, with as many lines for each row as its cells need at these widths."""
    wrappers = [TextWrapper(width, break_on_hyphens=False) for width in widths]
    lines: list[tuple[str, ...]] = []
    for row in zip(*columns):
        if all(len(cell) <= width for cell, width in zip(row, widths)):
            lines.append(row)
            continue
        cells = [wrapper.wrap(cell) or [""] for wrapper, cell in zip(wrappers, row)]
        lines += zip_longest(*cells, fillvalue="")
    return list(zip(*lines))
