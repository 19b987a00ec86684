"""Searches the dump's memory, each page once, and says what of it could not be searched."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence

from gdb_kdump import walks
from gdb_kdump.errors import Why
from gdb_kdump.kernel.mm.system_ram import SystemRam
from gdb_kdump.kernel.search_areas import Area
from gdb_kdump.records.patterns import Pattern
from gdb_kdump.records.search import STOPPED, Searched, SearchedPart, Unread, joined
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps

MOST_HITS = 100_000

Tell = Callable[[int, int, int], None]
"""Is told now and then how far it is: bytes that have been gone through, all of them, and hits."""


def search(
    session: Session, pattern: Pattern, areas: Sequence[Area], gaps: Gaps, tell: Tell = lambda *_: None
) -> Searched:
    """Where a pattern stands in some areas.

    Ctrl-C ends it, and MOST_HITS, or as many as the limit of walks is.  Raises DumpError.
    """
    progress = _Progress(tell, sum(size for area in areas for _, size in area.ranges))
    parts = [_search(session, pattern, area, gaps, progress) for area in areas]
    hits = array("Q")
    for part in parts:
        hits.extend(part.hits)
    unread = joined(piece for part in parts for piece in part.unread)
    return Searched(hits, sum(part.searched_bytes for part in parts), tuple(unread))


class _Progress:
    """What was gone through and found in all areas so far."""

    def __init__(self, tell: Tell, total: int) -> None:
        self._tell = tell
        self._total = total
        self._gone_through = self.hits = 0

    def add(self, gone_through: int, hits: int) -> None:
        self._gone_through += gone_through
        self.hits += hits
        self._tell(self._gone_through, self._total, self.hits)

    @property
    def too_many(self) -> str:
        """The sentence for it when there are more hits than can be told."""
        if self.hits >= walks.max_elements():
            return walks.too_many("the search")
        if self.hits >= MOST_HITS:
            return (
                f"the search: stopped after {self.hits} hits; have less of memory searched, or look for something rarer"
            )
        return ""


def _search(session: Session, pattern: Pattern, area: Area, gaps: Gaps, progress: _Progress) -> Searched:
    server, parts = session.server, _Parts()
    if not area.ranges or progress.too_many or walks.is_interrupted():
        return parts.result(session, area)
    messages = server.found(server.begin_search(pattern, area.ranges, area.physical))
    try:
        for part in messages:
            parts.add(part, progress)
            if progress.too_many:
                gaps.note(progress.too_many)
                break
    except KeyboardInterrupt:
        gaps.note(f"the search: {walks.interrupt()}")
    finally:
        messages.close()
        server.stop_search()
    return parts.result(session, area)


class _Parts:
    """What the messages of one search have said."""

    def __init__(self) -> None:
        self._hits: list[array[int]] = []
        self._holes: list[tuple[int, int, Why]] = []
        self._done: list[tuple[int, int]] = []
        self._searched = 0

    def add(self, part: SearchedPart, progress: _Progress) -> None:
        self._hits.append(part.hits)
        self._holes += part.holes
        self._done += part.done
        self._searched += part.searched_bytes
        progress.add(sum(size for _, size in part.done), len(part.hits))

    def result(self, session: Session, area: Area) -> Searched:
        """All of it, by the addresses that are told."""
        missing = [Unread(start, size, why.name) for start, size, why in self._holes]
        missing += (Unread(start, size, STOPPED) for start, size in _rest(area.ranges, self._done))
        if area.physical:
            missing = _in_ram(missing, session.once(SystemRam).ranges())
        shift = area.shift
        unread = [*(Unread(piece.start + shift, piece.size, piece.why) for piece in joined(missing)), *area.unread]
        return Searched(_in_order(self._hits, shift), self._searched, tuple(unread))


def _in_order(parts: list[array[int]], shift: int) -> array[int]:
    """Hits that came in pieces, each in order; some may have come twice, where a part was searched again."""
    parts = sorted(filter(None, parts), key=lambda part: part[0])
    if any(before[-1] >= part[0] for before, part in zip(parts, parts[1:])):
        parts = [array("Q", sorted({hit for part in parts for hit in part}))]
    hits = array("Q")
    for part in parts:
        hits.extend([hit + shift for hit in part] if shift else part)
    return hits


def _rest(ranges: Iterable[tuple[int, int]], done: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What of some ranges is not among those that are done, which are pieces of them."""
    pieces, index = sorted(done), 0
    for start, size in sorted(ranges):
        end = start + size
        while index < len(pieces) and pieces[index][0] < end:
            first, length = pieces[index]
            if start < first:
                yield start, first - start
            start = max(start, first + length)
            index += 1
        if start < end:
            yield start, end - start


def _in_ram(missing: Iterable[Unread], ram: Sequence[tuple[int, int]] | None) -> list[Unread]:
    """What of missing memory is memory of the kernel, where that is known: what a dump lacks need not be any."""
    if ram is None:
        return list(missing)
    kept: list[Unread] = []
    for piece in missing:
        if piece.why not in (Why.FILTERED.name, STOPPED):
            kept.append(piece)
            continue
        for start, end in ram:
            low, high = max(start, piece.start), min(end, piece.start + piece.size)
            if low < high:
                kept.append(Unread(low, high - low, piece.why))
    return kept
