"""Reads an sk_buff and runs its rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from gdb_kdump import walks
from gdb_kdump.diagnosis.in_hand import InHand
from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable, Why
from gdb_kdump.kernel.mm.allocator import allocator
from gdb_kdump.kernel.net.holders import Holders
from gdb_kdump.kernel.net.skbuff import Skbs
from gdb_kdump.records.skb import Held, SharedInfo
from gdb_kdump.records.slab import SlabObject
from gdb_kdump.rules import judge_members, judge_shinfo
from gdb_kdump.rules.findings import Finding, verdict
from gdb_kdump.rules.skb import unmapped
from gdb_kdump.rules.slab import judge_slab
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps

T = TypeVar("T")


@dataclass(frozen=True)
class Checked:
    """What was judged and what was found.

    `holes` could not be judged because the dump does not have them; `gaps` say what else could not, as the types lack
    something, or the user stopped it.  `bad_shinfos` are the sk_buffs (addresses) whose shared info is not sound.
    `lacks_the_case` says that what the panic is about is among the holes.
    """

    skbs: int = 0
    queues: int = 0
    findings: tuple[Finding, ...] = ()
    holes: tuple[Unreadable, ...] = ()
    gaps: tuple[str, ...] = ()
    bad_shinfos: tuple[int, ...] = ()
    lacks_the_case: bool = False

    @property
    def verdict(self) -> str:
        """What it amounts to; "unknown" when all that was asked for is missing from the dump, or some for the types."""
        judged = not self.holes or (len(self.holes) < self.skbs + self.queues and not self.lacks_the_case)
        return verdict(self.findings, judged=judged and not self.gaps)

    def __add__(self, other: Checked) -> Checked:
        return Checked(
            skbs=self.skbs + other.skbs,
            queues=self.queues + other.queues,
            findings=_merged(self.findings, other.findings),
            holes=self.holes + other.holes,
            gaps=_merged(self.gaps, other.gaps),
            bad_shinfos=_merged(self.bad_shinfos, other.bad_shinfos),
            lacks_the_case=self.lacks_the_case or other.lacks_the_case,
        )


@dataclass(frozen=True)
class Verdict:
    """What is wrong with an sk_buff, by what gave it: its members, its shared info, the slabs that it stands in.

    `hole` is what of it the dump does not have.
    """

    members: tuple[Finding, ...] = ()
    shinfo: tuple[Finding, ...] = ()
    slabs: tuple[Finding, ...] = ()
    hole: Unreadable | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.members + self.shinfo + self.slabs


def _merged(first: tuple[T, ...], second: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(first + second)) if first and second else first or second


SOUND = Verdict()


class Checks:
    """Judges sk_buffs for one command.

    What it keeps are answers that would be the same again: a verdict never depends on what was asked before.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._skbs = session.once(Skbs)
        self._slabs: dict[int, tuple[Finding, ...]] = {}  # by the address of the slab
        self._pages: dict[int, tuple[Finding, ...]] = {}  # the same by the number of a page: it belongs to one slab
        self._caches: set[int] = set()  # those whose slabs have come up

    def skb(self, addr: int, held: Held | None = None) -> Verdict:
        """What is wrong with the sk_buff at an address, with its buffer and with the slabs that hold them.

        Where it is `held` is looked for where that is not known, and a rule asks.
        """
        where = partial(self._held, addr) if held is None else lambda: held
        try:
            record = self._skbs.read_for_rules(addr, where)
        except Unreadable as error:
            if error.why is not Why.UNMAPPED:
                return Verdict(hole=error.as_value())
            return Verdict((unmapped(addr),))
        freed = isinstance(record.shinfo, SharedInfo) and any(frag.is_free for frag in record.shinfo.frags)
        if record.members.users > 1 or freed:
            in_hand = self._session.once(InHand)
            record = replace(
                record, alone=partial(in_hand.function, addr), released=partial(in_hand.released, record.end)
            )
        members, shinfo = judge_members(record), judge_shinfo(record)
        slabs = _merged(self._slab(addr), self._slab(record.members.head))
        if not (members or shinfo or slabs or record.hole):
            return SOUND
        return Verdict(tuple(members), tuple(shinfo), slabs, record.hole)

    def _held(self, addr: int) -> Held:
        return self._session.once(Holders).of(addr)

    def slabs_of(self, caches: Iterable[int], gaps: Gaps) -> tuple[Finding, ...]:
        """What is wrong with the freelists of some caches (addresses), and of those of the buffers judged so far."""
        findings: dict[Finding, None] = {}
        slabs = allocator(self._session)
        wanted = self._caches | set(caches)
        with walks.walk("the slabs", gaps, lambda entry: entry.slab.addr) as steps:
            for cache in slabs.caches(gaps):
                if cache.addr in wanted:
                    for entry in steps(slabs.damaged_slabs(cache, gaps)):
                        findings.update(dict.fromkeys(self._slab(entry.addr)))
        return tuple(findings)

    def _slab(self, addr: int) -> tuple[Finding, ...]:
        """What is wrong with the slab that an address lies in: its freelists, and the guards of all its objects."""
        page = addr & -self._session.arch.page_size
        findings = self._pages.get(page)
        if findings is not None:
            return findings
        try:
            entry = allocator(self._session).find_object(addr)
        except (Unreadable, MissingDebugInfo, Corrupt):
            return ()  # without its slab, memory is neither sound nor corrupt
        if entry is None:
            return ()
        self._caches.add(entry.cache.addr)
        findings = self._slabs.get(entry.slab.addr)
        if findings is None:
            findings = self._slabs[entry.slab.addr] = self._judge_slab(entry)
        self._pages[page] = findings
        return findings

    def _judge_slab(self, entry: SlabObject) -> tuple[Finding, ...]:
        slab, findings = entry.slab, dict.fromkeys(judge_slab(entry))
        # With guards around every object, the damage to a neighbour is part of the story.
        for index in range(slab.nr_objects if slab.cache.is_guarded else 0):
            judged = allocator(self._session).find_object(slab.object_start(index))
            findings.update(dict.fromkeys(judge_slab(judged) if judged is not None else ()))
        return tuple(findings)

    def all_skbs(self, addresses: list[int]) -> Checked:
        """Several sk_buffs, each once; what is wrong with a slab is told once for all that stand in it."""
        findings: dict[Finding, None] = {}
        holes: list[Unreadable] = []
        bad_shinfos: list[int] = []
        count = 0
        with walks.walk("the sk_buffs") as steps:
            for addr in steps(dict.fromkeys(addresses)):
                verdict = self.skb(addr)
                findings.update(dict.fromkeys(verdict.findings))
                if verdict.shinfo:
                    bad_shinfos.append(addr)
                if verdict.hole is not None and not verdict.findings:
                    holes.append(verdict.hole)
                count += 1
        gaps = (steps.ended,) if steps.ended else ()
        return Checked(count, 0, tuple(findings), tuple(holes), gaps, tuple(bad_shinfos))
