"""What memory is searched for, and what was found of it: plain facts that both processes know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Union

MOST_PATTERNS = 1000
"""Of one search: what is searched for must fit into one message."""


@dataclass(frozen=True)
class Words:
    """Words of `size` bytes (2, 4 or 8) at multiples of that, little-endian, with a value in any of some ranges.

    A range is its first and its last value; bits that are set in `ignored` do not count, and are clear in the ranges.
    """

    size: int
    ranges: tuple[tuple[int, int], ...]
    ignored: int = 0


@dataclass(frozen=True)
class Texts:
    """Any of some byte strings, at any address: each as its bytes, and the bits of them that count."""

    texts: tuple[tuple[bytes, bytes], ...]

    @property
    def longest(self) -> int:
        """Bytes of the longest one."""
        return max(len(text) for text, _ in self.texts)


Pattern = Union[Words, Texts]


def pattern_to_json(pattern: Pattern) -> dict[str, Any]:
    """The pattern as a message carries it."""
    if isinstance(pattern, Words):
        return {"size": pattern.size, "ranges": pattern.ranges, "ignored": pattern.ignored}
    return {"texts": [(text.hex(), counts.hex()) for text, counts in pattern.texts]}


def pattern_from_json(document: dict[str, Any]) -> Pattern:
    """The pattern that pattern_to_json() was given."""
    if "texts" in document:
        return Texts(tuple((bytes.fromhex(text), bytes.fromhex(counts)) for text, counts in document["texts"]))
    ranges = tuple((first, last) for first, last in document["ranges"])
    return Words(document["size"], ranges, document["ignored"])
