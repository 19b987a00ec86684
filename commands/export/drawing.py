"""An sk_buff's buffer as a bar to draw: its parts one after the other, and the span that was overwritten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

WIDTH = 960  # of the bar, in the units of the picture
_LEAST = 96  # of a part that has bytes, so that its words fit
_MOST_BYTES = 1 << 24  # no buffer has more; the marks of one that seems to have are damaged


@dataclass(frozen=True)
class Part:
    """Some bytes of the bar: what they are, where they begin, how many, and where they are drawn."""

    name: str
    kind: str
    start: int
    size: int
    x: float
    width: float


@dataclass(frozen=True)
class Drawing:
    """The parts, from low to high addresses, and the overwritten span or None."""

    parts: tuple[Part, ...]
    span: Part | None


def buffer_drawing(shinfo: Mapping[str, Any], overrun: Mapping[str, Any] | None) -> Drawing | None:
    """The drawing of what `shinfo --json` and `overrun` of `ktriage --json` have; None where the marks are damaged."""
    head, data, tail, end = (int(shinfo[name], 16) for name in ("head", "data", "tail", "end"))
    if not head <= data <= tail <= end or end - head > _MOST_BYTES:
        return None
    marks = [
        ("headroom", "room", head, data), ("data", "data", data, tail), ("tailroom", "room", tail, end),
        ("shared info", "shinfo", end, end + shinfo["size"]),
    ]  # fmt: skip
    first = last = 0
    if overrun is not None:
        first, last = int(overrun["first"], 16), int(overrun["first"], 16) + overrun["length"]
        if first < head:
            marks.insert(0, ("before the buffer", "other", first, head))
        if last > marks[-1][3]:
            marks.append(("behind the buffer", "other", marks[-1][3], last))
    parts = tuple(_placed([mark for mark in marks if mark[2] < mark[3]]))
    if overrun is None:
        return Drawing(parts, None)
    left, right = _x(parts, first), _x(parts, last)
    return Drawing(parts, Part("overwritten", "span", first, last - first, left, max(2.0, right - left)))


def _placed(marks: list[tuple[str, str, int, int]]) -> Iterator[Part]:
    total = sum(high - low for *_, low, high in marks)
    spare, x = WIDTH - _LEAST * len(marks), 0.0
    for name, kind, low, high in marks:
        width = round(_LEAST + spare * (high - low) / total, 1)
        yield Part(name, kind, low, high - low, x, width)
        x = round(x + width, 1)


def _x(parts: tuple[Part, ...], addr: int) -> float:
    """Where an address is drawn."""
    part = next((part for part in parts if part.start <= addr <= part.start + part.size), parts[-1])
    return round(part.x + part.width * min(1.0, max(0.0, (addr - part.start) / part.size)), 1)
