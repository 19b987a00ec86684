"""struct skb_shared_info, its fragments and its frag_list, read into records; include/linux/skbuff.h."""

from __future__ import annotations

from dataclasses import replace

from gdb_kdump.errors import MissingDebugInfo, Unreadable, Why
from gdb_kdump.kernel.mm.allocations import Allocations
from gdb_kdump.kernel.mm.page_users import PageUsers
from gdb_kdump.kernel.mm.pages import Page, Pages
from gdb_kdump.kernel.net.queue_walk import follow_chain
from gdb_kdump.layout.net import max_skb_frags, skb_zerocopy
from gdb_kdump.records.skb import Frag, FragList, SharedInfo
from gdb_kdump.session import Session

_MEMBERS = ("nr_frags", "dataref", "frag_list", "gso_size", "gso_segs", "gso_type", "tx_flags", "destructor_arg")
# What can be judged without: with these values no rule finds fault with what is not known.
_INSTEAD = dict.fromkeys(("gso_size", "gso_segs", "gso_type", "tx_flags", "destructor_arg"), 0)
_FRAG_MEMBERS = ("page", "offset", "size")
_NO_CHAIN = FragList((), 0)


class SharedInfos:
    """Reads the shared infos of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        layout = session.layout
        self.absent = layout.absent("skb_shared_info", _INSTEAD)
        """The members that the types lack."""
        zerocopy_member, self._zerocopy_bit = skb_zerocopy(layout)
        self._shinfo = layout.unpacker("skb_shared_info", (*_MEMBERS, zerocopy_member), _INSTEAD)
        self._links = layout.unpacker("sk_buff", ("next", "len", "data_len"))
        self._frag = layout.unpacker("skb_frag", _FRAG_MEMBERS)
        self._frags_offset = layout.offset("skb_shared_info.frags")
        # Where dataref is the last member that a new one gets, what was left from before begins after it already.
        dataref, arg = (layout.find_member(f"skb_shared_info.{name}") for name in ("dataref", "destructor_arg"))
        is_last = dataref is not None and arg is not None and dataref.offset < arg.offset < self._frags_offset
        self._cleared = dataref.offset + dataref.size if dataref is not None and is_last else 0
        self.size = self._shinfo.size
        self.max_frags = max_skb_frags(layout)
        # The member that says zerocopy is `flags` where there is one.
        has_flags = zerocopy_member == "flags"
        self.known_flags = session.debuginfo.enum_bits("SKBFL_ZEROCOPY_ENABLE") if has_flags else 0
        """The bits of flags that mean something, 0 where that is not known."""

    def read(self, addr: int) -> SharedInfo:
        """The shared info at a `struct skb_shared_info *`; raises Unreadable."""
        block, at = self._memory.block(addr, self._shinfo.span)
        values = self._shinfo.unpack_from(block, at)
        nr_frags, dataref, frag_list, gso_size, gso_segs, gso_type, tx_flags, destructor_arg, zerocopy = values
        frags = self._frags(addr + self._frags_offset, min(nr_frags, self.max_frags))
        # The fragments are written as far as they are counted.
        counted = len(frags) * self._frag.size if nr_frags <= self.max_frags else 0
        return SharedInfo(
            addr=addr,
            nr_frags=nr_frags,
            dataref=dataref,
            frag_list=frag_list,
            gso_size=gso_size,
            gso_segs=gso_segs,
            gso_type=gso_type,
            tx_flags=tx_flags,
            destructor_arg=destructor_arg,
            flags=zerocopy if self.known_flags else 0,
            is_zerocopy=bool(zerocopy & self._zerocopy_bit),
            frags=frags,
            chain=self._chain(frag_list) if frag_list else _NO_CHAIN,
            written=self._cleared or self._frags_offset + counted,
        )

    def with_memory(self, shinfo: SharedInfo) -> SharedInfo:
        """The same with what memory its fragments and the sk_buffs of its frag_list stand in."""
        if not (shinfo.frags or shinfo.chain.skbs):
            return shinfo
        frags, chain = tuple(map(self._with_room, shinfo.frags)), self._with_foreign(shinfo.chain)
        return replace(shinfo, frags=frags, chain=chain)

    def _with_foreign(self, chain: FragList) -> FragList:
        """The same chain with the first member that is no allocated sk_buff."""
        allocations = self._session.once(Allocations)
        for member in chain.skbs:
            memory = allocations.of(member)
            if memory.kind == "free" or (memory.kind == "slab" and not (memory.is_skb and memory.state != "free")):
                what = f"a free object of {memory.cache}" if memory.state == "free" else f"an object of {memory.cache}"
                return replace(chain, foreign=(member, what if memory.cache else "a free page"))
        return chain

    def _with_room(self, frag: Frag) -> Frag:
        """The same fragment with what its `struct page *` says of that page's memory."""
        try:
            pages = self._session.once(Pages)
        except (Unreadable, MissingDebugInfo):
            return frag  # nothing says where the struct pages are: Allocations.gaps says why
        if not pages.is_page(frag.page):
            return replace(frag, room=0)
        try:
            page = pages.find(pages.address_of(frag.page))
        except Unreadable:
            return frag
        if page is None:
            return frag
        if page.is_stray:
            return replace(frag, room=0)
        # The offset counts from this page, which may be in the middle of a compound one.
        room = page.start + (pages.page_size << page.order) - pages.address_of(frag.page)
        is_free = page.is_free or (page.refcount <= 0 and not page.is_slab)
        cache = self._session.once(Allocations).of(page.start).cache if page.is_slab else ""
        return replace(frag, room=room, is_free=is_free, is_slab=page.is_slab, cache=cache, wrong=self._wrong(page))

    def _wrong(self, page: Page) -> str:
        try:
            return self._session.once(PageUsers).wrong_for_packets(page)
        except Unreadable:
            return ""

    def _frags(self, addr: int, count: int) -> tuple[Frag, ...]:
        if not count:
            return ()
        size, unpack = self._frag.size, self._frag.unpack_from
        block, at = self._memory.block(addr, count * size)
        frags = (unpack(block, at + number * size) for number in range(count))
        return tuple(Frag(page=page, offset=offset, size=length) for page, offset, length in frags)

    def _chain(self, first: int) -> FragList:
        """The frag_list from its first sk_buff on; include/linux/skbuff.h: skb_walk_frags."""
        total = longest = 0

        def following(skb: int) -> int:
            nonlocal total, longest
            after, length, data_len = self._links.unpack_from(*self._memory.block(skb, self._links.span))
            total += length
            longest = max(longest, length - data_len)
            return int(after)

        chain = follow_chain(first, following)
        hole = Unreadable(chain.nodes[-1] if chain.nodes else first, Why.UNKNOWN) if chain.stopped else chain.hole
        return FragList(chain.nodes, total, hole=hole, cycle=chain.cycle, longest_linear=longest)
