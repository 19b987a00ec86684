"""Finds patterns in bytes, as fast as Python can: what looks at every byte is one call of C for many of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from itertools import compress
from typing import Protocol

from gdb_kdump.formats.integers import integers
from gdb_kdump.records.patterns import Pattern, Texts, Words

_CODES = {2: "H", 4: "I", 8: "Q"}
_FEW = 6  # values, up to which each is looked for by itself
_DENSE = 16  # words, of which more than one matches: then looking at each is faster than jumping from one to the next

Find = Callable[[bytes], Collection[int]]


class Matcher(Protocol):
    """Where a pattern stands in a piece of memory."""

    @property
    def alignment(self) -> int:
        """Bytes that a match begins at multiples of; a piece of memory must, too."""

    @property
    def overlap(self) -> int:
        """Bytes of the piece before that a match in this one may begin in."""

    def find(self, data: bytes, seen: int = 0) -> Collection[int]:
        """The offsets of all matches in ascending order, but those that end within the first `seen` bytes."""


def matcher(pattern: Pattern) -> Matcher:
    """What finds a pattern."""
    return WordMatcher(pattern) if isinstance(pattern, Words) else TextMatcher(pattern)


class WordMatcher:
    """Finds aligned words; `data` may end within one, which does not count then."""

    overlap = 0

    def __init__(self, words: Words) -> None:
        self.alignment = words.size
        exact = {first for first, last in words.ranges if first == last}
        if len(exact) > _FEW and not words.ignored:
            ranges = [(first, last) for first, last in words.ranges if first != last]
            self._finders: list[Find] = [_any_of(words.size, frozenset(exact))]
        else:
            ranges, self._finders = [*words.ranges], []
        self._finders += [_in_range(words.size, first, last, words.ignored) for first, last in ranges]

    def find(self, data: bytes, seen: int = 0) -> Collection[int]:
        data = data if not len(data) % self.alignment else data[: len(data) & -self.alignment]
        found = [offsets for find in self._finders if (offsets := find(data))]
        if len(found) < 2:
            return found[0] if found else ()
        return sorted({offset for offsets in found for offset in offsets})


def _any_of(size: int, wanted: frozenset[int]) -> Find:
    """Finds words that have one of many values."""
    code = _CODES[size]

    def find(data: bytes) -> Collection[int]:
        words = integers(code, data)
        if wanted.isdisjoint(words):
            return ()
        return [index * size for index, word in enumerate(words) if word in wanted]

    return find


def _in_range(size: int, first: int, last: int, ignored: int) -> Find:
    """Finds words between two values, or with one but for bits that are ignored.

    All first bytes of the words make a column, all second ones another, …: a column is looked at in one go, first those
    that tell the most: not of the bytes that memory is full of.
    """
    low, high, free = (number.to_bytes(size, "little") for number in (first, last, ignored))
    columns: list[tuple[int, bytes]] = []
    for index in reversed(range(size)):
        columns.insert(0, (index, _flags(low[index], high[index], free[index])))
        if low[index] != high[index]:
            break  # the bytes below it depend on this one
    is_exact = not columns[0][0] or (set(low[: columns[0][0]]) == {0} and set(high[: columns[0][0]]) == {0xFF})
    columns = [(index, flags) for index, flags in columns if 0 in flags] or columns[:1]
    columns.sort(key=lambda column: column[1][0] + column[1][0xFF])
    code = _CODES[size]

    def find(data: bytes) -> Collection[int]:
        index, flags = columns[0]
        bits = int.from_bytes(data[index::size].translate(flags), "little")
        for index, flags in columns[1:]:
            if not bits:
                return ()
            bits &= int.from_bytes(data[index::size].translate(flags), "little")
        if not bits:
            return ()
        offsets = _offsets(bits.to_bytes(len(data) // size, "little"), size)
        if is_exact:
            return offsets
        words = integers(code, data)
        return [offset for offset in offsets if first <= words[offset // size] & ~ignored <= last]

    return find


def _flags(low: int, high: int, free: int) -> bytes:
    """For every byte whether it is from `low` to `high`, but for the bits in `free`: 1 or 0."""
    return bytes(low <= byte & ~free <= high for byte in range(256))


def _offsets(flags: bytes, size: int) -> list[int]:
    """The offsets of the words that have a 1 among the flags."""
    count = flags.count(1)
    if count * _DENSE > len(flags):
        return list(compress(range(0, len(flags) * size, size), flags))
    offsets, index = [], -1
    for _ in range(count):
        index = flags.index(1, index + 1)
        offsets.append(index * size)
    return offsets


class TextMatcher:
    """Finds byte strings, those that overlap as well."""

    alignment = 1

    def __init__(self, texts: Texts) -> None:
        self.overlap = texts.longest - 1
        self._texts = [(len(text), _searcher(text, counts)) for text, counts in texts.texts]

    def find(self, data: bytes, seen: int = 0) -> Collection[int]:
        offsets: set[int] = set()
        for length, search in self._texts:
            offsets.update(_all(search, data, max(0, seen - length + 1)))
        return sorted(offsets)


def _searcher(text: bytes, counts: bytes) -> Callable[[bytes, int], int]:
    """Finds a text from an offset on, -1 where it is not, as bytes.find does."""
    if counts == b"\xff" * len(text):
        return lambda data, start: data.find(text, start)
    wanted = re.compile(b"".join(_one_of(byte, counting) for byte, counting in zip(text, counts)), re.DOTALL)

    def search(data: bytes, start: int) -> int:
        match = wanted.search(data, start)
        return -1 if match is None else match.start()

    return search


def _one_of(byte: int, counts: int) -> bytes:
    """A regular expression for the bytes that are as one in the bits that count."""
    alike = [other for other in range(256) if not (other ^ byte) & counts]
    if len(alike) == 256:
        return b"."
    return b"[" + b"".join(b"\\x%02x" % other for other in alike) + b"]" if len(alike) > 1 else re.escape(bytes(alike))


def _all(search: Callable[[bytes, int], int], data: bytes, start: int) -> Iterator[int]:
    offset = search(data, start)
    while offset >= 0:
        yield offset
        offset = search(data, offset + 1)
