"""Recursion in a trace, found so that it can be shown once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

_LONGEST = 32  # frames that call each other in a circle
_LEAST = 3  # times that they must do so: two are shown as they are


@dataclass(frozen=True)
class Recursion:
    """`count` times the same `length` frames one after the other, from the frame `first` on."""

    first: int
    length: int
    count: int

    @property
    def end(self) -> int:
        """The first frame after it."""
        return self.first + self.length * self.count


def find_recursions(frames: Sequence[Hashable]) -> list[Recursion]:
    """The recursions in a trace, of which each frame has something that it shares with its like, in order."""
    found, at = [], 0
    while at < len(frames):
        known = max((_at(frames, at, length) for length in range(1, _LONGEST + 1)), key=lambda one: one.end)
        if known.count >= _LEAST:
            found.append(known)
            at = known.end
        else:
            at += 1
    return found


def _at(frames: Sequence[Hashable], first: int, length: int) -> Recursion:
    block, count = frames[first : first + length], 1
    while len(block) == length and frames[first + count * length : first + (count + 1) * length] == block:
        count += 1
    return Recursion(first, length, count if count >= _LEAST else 0)
