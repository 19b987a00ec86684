"""What a search of the dump has found, and what it could not look at."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

from gdb_kdump.errors import Why

STOPPED = "STOPPED"
"""Why something was not searched that could have been: the search ended before."""


@dataclass(frozen=True)
class Unread:
    """Memory that was not searched: its address, its bytes, and the name of a Why, or STOPPED."""

    start: int
    size: int
    why: str


@dataclass(frozen=True)
class Searched:
    """Where a pattern stands (addresses, in order), and how much of what was asked for was searched, in bytes."""

    hits: array[int]
    searched_bytes: int
    unread: tuple[Unread, ...]

    @property
    def complete(self) -> bool:
        """Whether nothing was left out."""
        return not self.unread


@dataclass(frozen=True)
class SearchedPart:
    """What one message of a search tells: hits in order; holes (address, bytes, why); ranges (address, bytes) that are
    done with this message, and how many bytes of them were searched."""

    hits: array[int]
    holes: tuple[tuple[int, int, Why], ...] = ()
    done: tuple[tuple[int, int], ...] = ()
    searched_bytes: int = 0


def why_words(why: str) -> str:
    """The sentence for why something was not searched."""
    return "the search was stopped before" if why == STOPPED else Why[why].sentence


def joined(pieces: Iterable[Unread]) -> list[Unread]:
    """The pieces in order, each once, and those of a kind that touch each other as one."""
    whole: list[Unread] = []
    for piece in sorted(pieces, key=lambda piece: (piece.start, -piece.size)):
        last = whole[-1] if whole else None
        if last is None or piece.start > last.start + last.size or piece.why != last.why:
            whole.append(piece)
        elif piece.start + piece.size > last.start + last.size:
            whole[-1] = Unread(last.start, piece.start + piece.size - last.start, last.why)
    return whole
