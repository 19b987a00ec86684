"""Words in lines that fit a terminal; on a pipe each stays one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from textwrap import TextWrapper

from gdb_kdump.commands.show import terminal
from gdb_kdump.commands.show.styles import TITLE, Line, styled
from gdb_kdump.text import escape

_MORE = " ..."
_LEAST = 20  # columns; what is narrower is not a text any more


def wrapped(text: str, indent: int = 0, first: int | None = None) -> list[str]:
    """The lines of a text, without the indentation that they will have: the `first` line's, and that of the others."""
    limit, text = terminal.columns(), escape(text)
    if limit is None or limit - indent < _LEAST:
        return [text]
    other = indent if first is None else first
    lines = TextWrapper(
        limit, initial_indent=" " * other, subsequent_indent=" " * indent, break_on_hyphens=False,
    ).wrap(text)  # fmt: skip
    return [line[other if n == 0 else indent :] for n, line in enumerate(lines)] or [""]


def rows(named: Iterable[tuple[str, str]], width: int, most: int | None = None) -> Iterator[Line]:
    """Lines `NAME: words`, as tables.pairs has them, with the words wrapped below each other.

    `width` is that of the longest name; of one name's words a terminal shows no more than `most` lines.
    """
    for name, text in named:
        label = f"{name:>{width}}: " if name else " " * (width + 2)
        lines = wrapped(text, width + 2)
        if most is not None and len(lines) > most:
            lines = [*lines[: most - 1], _cut(lines[most - 1])]
        yield styled((label, TITLE if name else ""), lines[0])
        yield from (" " * (width + 2) + line for line in lines[1:])


def _cut(line: str) -> str:
    """A line without its last words, so that the dots which say so fit."""
    words = line[: -len(_MORE)].rsplit(maxsplit=1)
    return f"{words[0] if words else ''}{_MORE}"
