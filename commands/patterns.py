"""What a user types as something to search for, as patterns."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gdb_kdump.commands.arguments import address
from gdb_kdump.errors import UsageError
from gdb_kdump.records.patterns import MOST_PATTERNS, Texts, Words

_HALVES = re.compile(r"(?:0x)?((?:[0-9a-fA-F?]{2})+)")
_LONGEST = 256  # bytes


def parse_words(values: Sequence[str], bounds: str | None, mask: str | None, size: int) -> Words:
    """Words of `size` bytes: values, and those in a range START:END, without the bits of a mask.  Raises UsageError."""
    ignored = 0 if mask is None else _fitting(mask, size)
    numbers = [_fitting(value, size) & ~ignored for value in values]
    ranges = [(number, number) for number in numbers]
    if bounds is not None:
        start, colon, end = bounds.partition(":")
        if not colon:
            raise UsageError("-r takes START:END")
        first, last = _fitting(start, size), _fitting(end, size) - 1
        if first > last:
            raise UsageError(f"-r {bounds}: there is nothing from {first:#x} to before {last + 1:#x}")
        ranges.append((first & ~ignored, last & ~ignored))
    _check_many(ranges)
    return Words(size, tuple(dict.fromkeys(ranges)), ignored)


def _fitting(expression: str, size: int) -> int:
    """The value of an expression as a word of `size` bytes; raises UsageError."""
    value, most = address(expression), 1 << 8 * size
    if value >= (1 << 64) - most // 2:  # below zero
        value &= most - 1
    if value >= most:
        raise UsageError(f"{expression} does not fit in {size} bytes")
    return value


def parse_text(values: Sequence[str]) -> Texts:
    """Strings, in quotes where they have spaces; between double quotes with C's escapes.  Raises UsageError."""
    return _texts([(text, b"\xff" * len(text)) for text in map(_unquoted, values)])


def _unquoted(value: str) -> bytes:
    quote = value[:1]
    if len(value) < 2 or quote not in "\"'" or not value.endswith(quote):
        return value.encode()
    inner = value[1:-1].encode()
    if quote == "'":
        return inner
    try:
        return inner.decode("unicode_escape").encode("latin-1")
    except UnicodeError:
        raise UsageError(f"{value} has an escape that is none of C's") from None


def parse_bytes(values: Sequence[str]) -> Texts:
    """Bytes by their hex digits, a question mark for a half that may be any; raises UsageError."""
    texts = []
    for value in values:
        digits = _HALVES.fullmatch(value)
        if digits is None:
            raise UsageError(f"{value!r} are no bytes: -b takes pairs of hex digits and ?, as in 6b6b??6b")
        counts = bytes.fromhex(re.sub("[0-9a-fA-F]", "f", digits[1]).replace("?", "0"))
        texts.append((bytes.fromhex(digits[1].replace("?", "0")), counts))
    return _texts(texts)


def _texts(texts: list[tuple[bytes, bytes]]) -> Texts:
    for text, counts in texts:
        if not text or not any(counts):
            raise UsageError("what is everywhere cannot be searched for: name at least one byte")
        if len(text) > _LONGEST:
            raise UsageError(f"{len(text)} bytes are too long to be searched for: at most {_LONGEST}")
    _check_many(texts)
    return Texts(tuple(dict.fromkeys(texts)))


def _check_many(patterns: Sequence[object]) -> None:
    if len(patterns) > MOST_PATTERNS:
        raise UsageError(f"{len(patterns)} values are too many for one search: at most {MOST_PATTERNS}")
