"""Do these bytes go on from those?  Finds records that repeat, and copies, and says how sure that is.

Pure arithmetic on bytes: nothing here knows what an sk_buff is.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_PERIOD = 512
_RECORDS = 4  # how many records back a column is looked at
_MIN_EVIDENCE = 6  # bytes that must agree, of those that chance would not make agree
_MISS = 2  # hits that a byte outweighs which is not what its column promised: counters and flags do change
_GIVE_UP = 12  # by how much misses may outweigh hits before the records are over
_MIN_COPY = 12  # bytes in a row that must stand elsewhere too to be called a copy


@dataclass(frozen=True)
class Continuation:
    """`length` bytes, up to the last one that says so, go on with records of `period` bytes.

    `evidence` is how many of them say so beyond chance, less those that speak against it.
    """

    period: int
    length: int
    evidence: int


@dataclass(frozen=True)
class Copy:
    """`length` bytes at offset `at` that stand at offset `source` of the other bytes, too."""

    at: int
    source: int
    length: int


def find_continuation(before: bytes, after: bytes, within: int | None = None) -> Continuation | None:
    """Whether `after` goes on with records that end `before`, or None.

    Its first `within` bytes, where that is given, must say so already.

    A column of a record is compared when it was constant, or grew by the same step, over the last records; others say
    nothing.  Columns of zeros, and a pattern of one repeated byte, are what untouched memory looks like: no evidence.
    """
    candidates = []
    for period in range(1, min(MAX_PERIOD, len(before) // 2) + 1):
        # The last record must resemble the one before: most periods end here.
        if period > 1 and before[-1] != before[-1 - period] and before[-2] != before[-2 - period]:
            continue
        found = _measure(before, after, period, within)
        if found is not None:
            candidates.append(found)
    if not candidates:
        return None
    best = max(candidates, key=lambda found: found.evidence)
    # What repeats every 32 bytes does so every 64 as well, and a counter may look more regular over several records.
    return next(
        found for found in candidates if best.period % found.period == 0 and 2 * found.evidence >= best.evidence
    )


def _measure(before: bytes, after: bytes, period: int, within: int | None) -> Continuation | None:
    records = min(_RECORDS, len(before) // period)
    if records < 2:
        return None
    text = before[-records * period :] + after
    base = records * period
    score = evidence = length = 0
    for index in range(len(after)):
        if index == within and score <= 0 and evidence < _MIN_EVIDENCE:
            return None
        expected = _expected(text, base + index, period, records)
        if expected is None:
            continue
        if text[base + index] != expected:
            score -= _MISS
        elif expected:
            score += 1
        if score > evidence:
            evidence, length = score, index + 1
        elif score < evidence - _GIVE_UP:
            break
    if evidence < _MIN_EVIDENCE or not _is_regular(before, period, records):
        return None
    return Continuation(period, length, evidence)


def _expected(text: bytes, at: int, period: int, records: int) -> int | None:
    """What stands at `at` if its column goes on as before, or None where the column follows no rule."""
    column = [text[at - period * back] for back in range(1, records + 1) if at >= period * back]
    steps = {(newer - older) & 0xFF for newer, older in zip(column, column[1:])}
    if len(steps) != 1:
        return None
    return (column[0] + steps.pop()) & 0xFF


def _is_regular(before: bytes, period: int, records: int) -> bool:
    last = before[-period:]
    previous = before[-2 * period : -period]
    same = sum(a == b for a, b in zip(last, previous))
    # A period of one repeated byte is memset, or memory that nobody wrote to.
    return len(set(last)) > 1 and same * 2 > period


def find_copy(text: bytes, source: bytes, within: int | None = None, least: int = _MIN_COPY) -> Copy | None:
    """The longest run of `text` that stands in `source`, too, or None when none is longer than chance would make it.

    Its first bytes must be among the first `within` of the text, where that is given.  Runs of one repeated byte do not
    count.
    """
    best: Copy | None = None
    at = 0
    while at + least <= (len(text) if within is None else within):
        length = best.length + 1 if best is not None else least
        piece = text[at : at + length]
        found = source.find(piece) if len(piece) == length and len(set(piece)) > 2 else -1
        if found < 0:
            at += 1
            continue
        while at + length < len(text) and found + length < len(source) and text[at + length] == source[found + length]:
            length += 1
        best = Copy(at, found, length)
    return best
