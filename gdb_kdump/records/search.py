"""What a search of the dump has found, and what it could not look at."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
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


def summary(unread: Sequence[Unread]) -> list[tuple[str, list[Unread]]]:
    """What was not searched: a sentence for each reason, and the pieces that it is about; what is most comes first."""
    by_why: dict[str, list[Unread]] = {}
    for piece in unread:
        by_why.setdefault(piece.why, []).append(piece)
    sizes = {why: sum(piece.size for piece in pieces) for why, pieces in by_why.items()}
    return [
        (_sentence(why, sizes[why], len(by_why[why])), by_why[why])
        for why in sorted(sizes, key=sizes.__getitem__)[::-1]
    ]


def _sentence(why: str, size: int, count: int) -> str:
    reason = "the search was stopped before" if why == STOPPED else Why[why].sentence
    ranges = "1 range" if count == 1 else f"{count:,} ranges"
    return f"not searched: {size:,} bytes in {ranges}: {reason} ({why})"


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
