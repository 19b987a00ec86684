"""Lines with words that stand out: in GDB's own styles, which the user sets with `set style`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Union

import gdb

from gdb_kdump.commands.show import terminal
from gdb_kdump.text import escape

TITLE, HIGHLIGHT, ADDRESS = "title", "highlight", "address"  # GDB's names of its styles: `set style title ...`

_RESET = "\033[m"
_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_INTENSITIES = {"bold": "1", "dim": "2"}


@dataclass(frozen=True)
class Styled:
    """A line in parts, each with the name of its style, or "" for none."""

    parts: tuple[tuple[str, str], ...]

    @property
    def plain(self) -> str:
        """The line without styles."""
        return "".join(text for text, _ in self.parts)


Line = Union[str, Styled]


def styled(*parts: tuple[str, str] | str) -> Styled:
    """A line of parts: words, or words and a style."""
    return Styled(tuple((part, "") if isinstance(part, str) else part for part in parts))


def shown(line: Line) -> str:
    """A line as it is written: what comes from a dump escaped, and styles where there are any."""
    if isinstance(line, str):
        return escape(line)
    if not terminal.has_styles():
        return escape(line.plain)
    return "".join(_in_style(escape(text), style) for text, style in line.parts)


def _in_style(text: str, style: str) -> str:
    codes = _codes(style) if style and text else []
    return f"\033[{';'.join(codes)}m{text}{_RESET}" if codes else text


def _codes(style: str) -> Sequence[str]:
    """The numbers of SGR that a style of GDB stands for."""
    codes = []
    for what, base in (("foreground", 30), ("background", 40)):
        codes += _colour(gdb.parameter(f"style {style} {what}"), base)
    intensity = _INTENSITIES.get(str(gdb.parameter(f"style {style} intensity")))
    return [intensity, *codes] if intensity else codes


def _colour(colour: Any, base: int) -> list[str]:
    """The numbers of a colour: GDB's word for it, or since GDB 17 a gdb.Color."""
    if isinstance(colour, str):
        return [str(base + _COLOURS.index(colour))] if colour in _COLOURS else []
    if colour.is_none:
        return []
    if colour.is_direct:
        return [str(base + 8), "2", *map(str, colour.components)]
    return [str(base + colour.index)] if colour.index < 8 else [str(base + 8), "5", str(colour.index)]
