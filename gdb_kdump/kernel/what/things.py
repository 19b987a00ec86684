"""Objects that pointers lead to from known roots: what each is, and who points to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gdb_kdump.kernel.lib.intervals import Intervals

_MOST_ABOVE = 8  # pointers to one object that are kept: a thousand tasks may share one
_DEEPEST = 12


@dataclass(eq=False)
class Thing:
    """An object of `size` bytes, 0 where nobody knows; `what` is the tag of its struct, or a word for what has none.

    `above` are those that point to it, each with the words between the two (" of", " on the receive queue of"); `more`
    are so many that are not kept.  `text` names it where its address is not enough, `note` is what else to say of it.
    """

    what: str
    addr: int
    size: int
    text: str = ""
    above: list[tuple[str, Thing]] = field(default_factory=list)
    more: int = 0
    note: str = ""

    def add(self, relation: str, above: Thing) -> None:
        """Note one more that points to it."""
        if len(self.above) >= _MOST_ABOVE:
            self.more += 1
        elif not any(known is above and words == relation for words, known in self.above):
            self.above.append((relation, above))

    def ways(self) -> list[list[tuple[Thing, str]]]:
        """The ways from it to roots: each object with the words that lead to the next one.

        Those that only come back to themselves are left out where another one leads to a root.
        """
        ways = list(self._ways(()))
        rooted = [way for way, leads_to_root in ways if leads_to_root]
        return rooted or [way for way, _ in ways]

    def _ways(self, below: tuple[Thing, ...]) -> Iterator[tuple[list[tuple[Thing, str]], bool]]:
        way = (*below, self)
        further = [(words, thing) for words, thing in self.above if thing not in way]
        if not further or len(way) >= _DEEPEST:
            yield [(self, "")], not self.above
            return
        for relation, thing in further:
            for rest, leads_to_root in thing._ways(way):
                yield [(self, relation), *rest], leads_to_root


class Things:
    """A growing set of objects, found by an address in them."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], Thing] = {}
        self._starts: dict[int, list[Thing]] = {}
        self._intervals: Intervals | None = None
        self._listed: list[Thing] = []

    def get(self, what: str, addr: int) -> Thing | None:
        """The object of that kind at an address, or None."""
        return self._known.get((what, addr))

    def add(self, what: str, addr: int, size: int, text: str = "") -> tuple[Thing, bool]:
        """The object of that kind at an address, and whether it is a new one."""
        thing = self._known.get((what, addr))
        if thing is not None:
            return thing, False
        thing = self._known[what, addr] = Thing(what, addr, size, text)
        self._starts.setdefault(addr, []).append(thing)
        self._intervals = None
        return thing, True

    def beginning(self, addr: int) -> list[Thing]:
        """The objects that begin at an address."""
        return self._starts.get(addr, [])

    def find(self, addr: int) -> list[Thing]:
        """The objects that an address lies in, the innermost first."""
        if self._intervals is None:
            self._listed = list(self._known.values())
            rows = ((one.addr, one.addr + one.size, number) for number, one in enumerate(self._listed) if one.size)
            self._intervals = Intervals(rows)
        return [self._listed[number] for number in self._intervals.find(addr)]
