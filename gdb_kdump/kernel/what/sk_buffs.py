"""The sk_buffs of the system with their buffers and fragments: which of them has an address, and where each is held."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.intervals import Intervals
from gdb_kdump.kernel.mm.pages import Pages
from gdb_kdump.kernel.net.net_queues import net_queues
from gdb_kdump.kernel.net.shared_info import SharedInfos
from gdb_kdump.kernel.net.skb_caches import SkbObjects
from gdb_kdump.kernel.net.skbuff import Skbs
from gdb_kdump.kernel.net.sock import Socks
from gdb_kdump.kernel.what.roots import Roots
from gdb_kdump.kernel.what.things import Thing
from gdb_kdump.records.queue import Queue, Role
from gdb_kdump.records.skb import SharedInfo
from gdb_kdump.session import Session
from gdb_kdump.text import is_kernel_address
from gdb_kdump.walks import Gaps, walk

_LARGEST = 1 << 22  # bytes: no buffer is larger; a damaged sk_buff claims anything
_BITS = 8  # of a number that say what of an sk_buff a range is
_SKB, _HEAD, _FRAG = 0, 1, 2  # the first fragment; the others count on from there
_MOST = 8  # sk_buffs that refer to one object and are kept
_POINTER = ~7  # of an address with flags in its lowest bits
# What an sk_buff may refer to: the logical member, and the tag of the struct there.
_REFERENCES = (("refdst", "dst_entry"), ("nfct", "nf_conn"), ("extensions", "skb_ext"))

Place = tuple[str, Thing]
"""Where an sk_buff is held: the words that lead there, and what is there."""


class SkbRanges:
    """Tells of an address which sk_buffs have it; all queues of one session are walked when it is made."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._roots = session.once(Roots)
        self._size = session.once(Skbs).size
        self._shinfos = session.once(SharedInfos)
        self.gaps = Gaps()
        self._places: dict[int, list[Place]] = {}
        self._heads: list[int] = []
        members = [(name, tag) for name, tag in _REFERENCES if session.layout.find_member(f"sk_buff.{name}")]
        self._tags = [tag for _, tag in members]
        self._unpacker = session.layout.unpacker("sk_buff", ("head", "sk", *(name for name, _ in members)))
        self._referring: dict[int, list[tuple[int, str]]] = {}
        self._pages: Pages | None = None
        try:
            self._pages = session.once(Pages)
        except (Unreadable, MissingDebugInfo) as error:
            self.gaps.note(f"the fragments of sk_buffs: {error}")
        with walk("the queues", self.gaps) as steps:
            for queue, place in steps(self._queues()):
                for skb in queue.skbs:
                    self._places.setdefault(skb, []).append(place)
        with walk("the sk_buffs on no queue", self.gaps) as steps:
            for skb in steps(self._on_no_queue()):
                self._places.setdefault(skb, [])
        self._skbs: list[int] = []
        self._ranges = Intervals(self._rows())

    def _queues(self) -> Iterator[tuple[Queue, Place]]:
        socks = self._session.once(Socks)
        for thing in self._roots.socks:
            try:
                for queue in socks.queues(thing.addr):
                    if queue.role is not Role.ACCEPT:
                        owner = thing if queue.sock in (0, thing.addr) else self._roots.sock(queue.sock)
                        yield queue, (f" on the {queue.name} queue of", owner)
            except (Unreadable, MissingDebugInfo) as error:
                self.gaps.note(f"the queues of sock 0x{thing.addr:016x}: {error}")
        for queue in net_queues(self._session, self.gaps):
            yield queue, (" on", Thing("queue", queue.head, 0, queue.name))

    def _on_no_queue(self) -> Iterator[int]:
        try:
            yield from self._session.once(SkbObjects).all(self.gaps)
        except (Unreadable, MissingDebugInfo, Corrupt) as error:
            self.gaps.note(f"the sk_buffs on no queue: {error}")

    def _rows(self) -> Iterator[tuple[int, int, int]]:
        """(start, end, number) of each range: the number is that of its sk_buff, and of what the range is to it."""
        pending, met = list(self._places), set[int]()
        while pending:
            skb = pending.pop()
            if skb in met:
                continue
            met.add(skb)
            number = len(self._skbs) << _BITS
            self._skbs.append(skb)
            yield skb, skb + self._size, number | _SKB
            try:
                head, sk, *references = self._unpacker.unpack_from(*self._memory.block(skb, self._unpacker.span))
                end = self._session.once(Skbs).skb_end_pointer(skb)
            except Unreadable:
                continue
            self._refer(skb, references)
            owner = self._roots.things.get("sock", sk)
            if owner is not None and not self._places.get(skb):
                self._places[skb] = [(", which is on no queue that was walked, and whose sk is", owner)]
            if not 0 <= end - head <= _LARGEST or not is_kernel_address(head):
                continue
            yield head, end + self._shinfos.size, number | _HEAD
            try:
                shinfo = self._shinfos.read(end)
            except Unreadable:
                continue
            for chained in shinfo.chain.skbs:
                place = ", in the frag_list of", Thing("sk_buff", skb, self._size)
                if chained not in self._places:
                    pending.append(chained)
                self._places.setdefault(chained, []).append(place)
            yield from self._fragments(shinfo, number)

    def _fragments(self, shinfo: SharedInfo, number: int) -> Iterator[tuple[int, int, int]]:
        for index, frag in enumerate(shinfo.frags if self._pages is not None else ()):
            if self._pages is not None and self._pages.is_page(frag.page) and 0 < frag.size <= _LARGEST:
                start = self._pages.address_of(frag.page) + frag.offset
                yield start, start + frag.size, number | _FRAG + index

    def _refer(self, skb: int, references: list[int]) -> None:
        for value, tag in zip(references, self._tags):
            addr = value & _POINTER
            if is_kernel_address(addr):
                referring = self._referring.setdefault(addr, [])
                if len(referring) < _MOST:
                    referring.append((skb, tag))

    def find(self, addr: int) -> list[Thing]:
        """What of sk_buffs an address lies in: buffers, fragments, and sk_buffs themselves."""
        return [self._thing(number) for number in self._ranges.find(addr)]

    def referred(self, addr: int) -> list[Thing]:
        """What begins at an address and sk_buffs refer to: dst_entries, conntrack entries, extensions."""
        things: dict[str, Thing] = {}
        for skb, tag in self._referring.get(addr, ()):
            thing = things.setdefault(tag, Thing(tag, addr, 0))
            thing.add(" of", self.sk_buff(skb))
        return list(things.values())

    def sk_buff(self, skb: int) -> Thing:
        """An sk_buff with where it is held."""
        return self._sk_buff(skb, ())

    def _sk_buff(self, skb: int, below: tuple[int, ...]) -> Thing:
        thing = Thing("sk_buff", skb, self._size)
        if not self._places.get(skb):
            thing.note = ", which is on no queue that was walked"
        for relation, above in self._places.get(skb, ()):
            if above.what == "sk_buff" and above.addr not in below:
                above = self._sk_buff(above.addr, (*below, skb))
            thing.add(relation, above)
        return thing

    def _thing(self, number: int) -> Thing:
        skb, part = self._skbs[number >> _BITS], number & (1 << _BITS) - 1
        owner = self.sk_buff(skb)
        if part == _SKB:
            return owner
        if part == _HEAD:
            head, *_ = self._unpacker.unpack_from(*self._memory.block(skb, self._unpacker.span))
            end = self._session.once(Skbs).skb_end_pointer(skb)
            thing = Thing("head", head, end - head + self._shinfos.size)
            thing.add(" of", owner)
            return thing
        return self._fragment(skb, part - _FRAG, owner)

    def _fragment(self, skb: int, index: int, owner: Thing) -> Thing:
        frag = self._shinfos.read(self._session.once(Skbs).skb_end_pointer(skb)).frags[index]
        assert self._pages is not None, "or there would be no range"
        thing = Thing(f"fragment {index}", self._pages.address_of(frag.page) + frag.offset, frag.size)
        thing.add(" of", owner)
        return thing
