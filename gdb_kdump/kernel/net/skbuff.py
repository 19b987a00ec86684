"""struct sk_buff and what it holds, read into records; include/linux/skbuff.h."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from functools import partial

from gdb_kdump import walks
from gdb_kdump.errors import MissingDebugInfo, Unreadable, Why
from gdb_kdump.kernel.mm.allocations import Allocations
from gdb_kdump.kernel.mm.pages import PAGE_SIZE, Pages
from gdb_kdump.kernel.module.source import Source
from gdb_kdump.kernel.net.sock import Socks
from gdb_kdump.layout.layout import max_skb_frags, skb_counts_from_head, skb_inner_headers, skb_zerocopy
from gdb_kdump.records.allocation import Allocation
from gdb_kdump.records.skb import Frag, FragList, Held, References, SharedInfo, Skb, on_a_queue
from gdb_kdump.session import Session
from gdb_kdump.text import is_kernel_address

_LARGEST_TRUESIZE = 1 << 31
_LARGEST_BUFFER = 1 << 20  # no kmalloc'd head is larger; a damaged one claims anything

_IPPROTO_TCP, _NEXTHDR_FRAGMENT, _IPV6_HEADER = 6, 44, 40  # include/uapi/linux/in.h; bytes
_IP_MF_AND_OFFSET = 0x3FFF  # include/net/ip.h: IP_MF | IP_OFFSET
_HEADERS = ("mac_header", "network_header", "transport_header")
_SKB_MEMBERS = (
    "next", "prev", "sk", "len", "data_len", "head", "data", "tail", "end", "truesize", "users", "cloned", "nohdr",
    "destructor", *_HEADERS,
)  # fmt: skip
# What can be judged without: with these values no rule finds fault with what is not known.
_SKB_INSTEAD = {"tail": 0, "cloned": 1, "nohdr": 0, "destructor": 0, **dict.fromkeys(_HEADERS, -1)}
_SHINFO_INSTEAD = dict.fromkeys(("gso_size", "gso_segs", "gso_type", "tx_flags", "destructor_arg"), 0)
# Not every kernel has them; those whose name begins with inner_ are headers, too.
_MORE_MEMBERS = (
    "dev", "dev_scratch", "refdst", "nfct", "extensions", "active_extensions", "fclone", "head_frag", "ip_summed",
    "csum_start", "csum_offset", "inner_mac_header", "inner_network_header", "inner_transport_header",
)  # fmt: skip
_POINTER = ~7  # of an address with flags in its lowest bits
_CHECKSUM_PARTIAL, _CHECKSUM_SIZE = 3, 2  # include/linux/skbuff.h, always the same number; bytes
_SHINFO_MEMBERS = ("nr_frags", "dataref", "frag_list", "gso_size", "gso_segs", "gso_type", "tx_flags", "destructor_arg")
_GSO_PROTOCOLS = ("TCPV4", "TCPV6", "UDP", "UDP_L4", "SCTP", "FCOE")  # those that leave the segments to one of them
_FRAG_MEMBERS = ("page", "offset", "size")


class Skbs:
    """Reads the sk_buffs of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        layout = session.layout
        self._skb = layout.unpacker("sk_buff", _SKB_MEMBERS, _SKB_INSTEAD)
        absent = layout.absent("sk_buff", _SKB_INSTEAD)
        missing = [f"sk_buff.{name}" for name in absent]
        missing += [f"skb_shared_info.{name}" for name in layout.absent("skb_shared_info", _SHINFO_INSTEAD)]
        self.missing = tuple(str(MissingDebugInfo(f"member {name}")) for name in missing)
        """What the types lack of an sk_buff, and which is not judged therefore."""
        self._has_tail = "tail" not in absent
        self._ends = layout.unpacker("sk_buff", ("head", "end"))
        self._alive = layout.unpacker("sk_buff", ("len", "data_len", "head", "truesize", "users"))
        self._links = layout.unpacker("sk_buff", ("next", "len"))
        zerocopy_member, self._zerocopy_bit = skb_zerocopy(layout)
        self._shinfo = layout.unpacker("skb_shared_info", (*_SHINFO_MEMBERS, zerocopy_member), _SHINFO_INSTEAD)
        self._frag = layout.unpacker("skb_frag", _FRAG_MEMBERS)
        self._frags_offset = layout.offset("skb_shared_info.frags")
        # Where dataref is the last member that a new one gets: behind it, and not only behind frags, is what was left.
        dataref, arg = (layout.find_member(f"skb_shared_info.{name}") for name in ("dataref", "destructor_arg"))
        is_last = dataref is not None and arg is not None and dataref.offset < arg.offset < self._frags_offset
        self._cleared = dataref.offset + dataref.size if dataref is not None and is_last else 0
        self._counted = [name in absent or skb_counts_from_head(layout, name) for name in _HEADERS]
        # A header that was never set has all bits set; a pointer to it is NULL.
        sizes = [0 if name in absent else layout.member(f"sk_buff.{name}").size for name in _HEADERS]
        unset = [(1 << 8 * size) - 1 if size else _SKB_INSTEAD[name] for name, size in zip(_HEADERS, sizes)]
        self._unset = [value if counted else None for value, counted in zip(unset, self._counted)]
        gso_types = session.debuginfo.enum_with("SKB_GSO_TCPV4")
        self._tcp_types = gso_types.get("SKB_GSO_TCPV4", 0) | gso_types.get("SKB_GSO_TCPV6", 0)
        self._gso_protocols = sum(gso_types.get(f"SKB_GSO_{name}", 0) for name in _GSO_PROTOCOLS)
        # The member that says zerocopy is `flags` where there is one.
        self._flags = session.debuginfo.enum_bits("SKBFL_ZEROCOPY_ENABLE") if zerocopy_member == "flags" else 0
        self._gso_types = session.debuginfo.enum_bits("SKB_GSO_TCPV4")
        self._more_names = [name for name in _MORE_MEMBERS if layout.find_member(f"sk_buff.{name}") is not None]
        self._more = layout.unpacker("sk_buff", self._more_names)
        # Where a fragment of an IP packet has its offset in the socket's place: there is a member for it.
        self._sk_may_be_offset = layout.find_member("sk_buff.ip_defrag_offset") is not None
        self._inner_headers = [name for name in self._more_names if name in skb_inner_headers(layout)]
        self._known_extensions = (1 << session.debuginfo.enum_with("SKB_EXT_NUM").get("SKB_EXT_NUM", 0)) - 1
        self._has_scratch = "dev_scratch" in self._more_names
        self._functions: dict[int, bool] = {}
        self.size = self._skb.size
        self.end_is_offset = skb_counts_from_head(layout, "end")
        self._tail_is_offset = self._has_tail and skb_counts_from_head(layout, "tail")
        self.max_frags = max_skb_frags(layout)

    def end_pointer(self, skb: int) -> int:
        """The end of the linear buffer (address) of the `struct sk_buff *` skb; skb_end_pointer.

        Raises Unreadable.
        """
        head, end = self._ends.unpack_from(*self._memory.block(skb, self._ends.span))
        return _address(head, end, self.end_is_offset)

    def read(self, skb: int) -> Skb:
        """The sk_buff at the `struct sk_buff *` skb with its shared info; raises Unreadable for skb itself only."""
        return self._read(skb, _nowhere)

    def read_with_buffer(self, skb: int) -> Skb:
        """The same with the bytes of the buffer."""
        record = self.read(skb)
        return replace(record, buffer=partial(self._buffer, record.head, record.end - record.head + record.shinfo_size))

    def read_with_places(self, skb: int, held: Callable[[], Held]) -> Skb:
        """The same with what memory the sk_buff, its buffer and its fragments stand in, its bytes, and who holds it."""
        record = self._read(skb, self._session.once(Allocations).of, held)
        shinfo = record.shinfo
        if shinfo is None or not (shinfo.frags or shinfo.chain.skbs):
            return record
        frags, chain = tuple(map(self._with_room, shinfo.frags)), self._with_foreign(shinfo.chain)
        return replace(record, shinfo=replace(shinfo, frags=frags, chain=chain))

    def _read(self, skb: int, place_of: Callable[[int], Allocation], held: Callable[[], Held] = on_a_queue) -> Skb:
        values = self._skb.unpack_from(*self._memory.block(skb, self._skb.span))
        next_, prev, sk, len_, data_len, head, data, tail, end, truesize, users, cloned, nohdr, destructor, *offsets = (
            values
        )
        end, tail = _address(head, end, self.end_is_offset), _address(head, tail, self._tail_is_offset)
        tail = tail if self._has_tail else data + len_ - data_len
        header_offsets: list[int | None] = [*offsets]
        if not all(self._counted):
            header_offsets = [
                at if counted else at - head if at else None for at, counted in zip(offsets, self._counted)
            ]
        headers = tuple(
            [(name, None if at == unset else at) for name, at, unset in zip(_HEADERS, header_offsets, self._unset)]
        )
        shinfo, hole = None, None
        try:
            shinfo = self.read_shinfo(end)
        except Unreadable as error:
            hole = error.as_value()
        buffer = bytes if place_of is _nowhere else partial(self._buffer, head, end - head + self._shinfo.size)
        return Skb(
            skb, next_, prev, sk, len_, data_len, head, data, tail, end, truesize, users, cloned, nohdr, headers,
            self._skb.size, self._shinfo.size, shinfo, hole, place_of(skb), place_of(head), buffer, held,
            destructor, place_of(sk) if sk and destructor else _UNKNOWN, self._unset[-1] or 0,
            shinfo is not None
            and bool(shinfo.gso_size or shinfo.gso_segs)
            and self._is_tcp(head, offsets[1], shinfo, sk),
            not self._skb.size <= truesize < _LARGEST_TRUESIZE and self._is_fragment(head, offsets[1]),
            _NO_REFERENCES if place_of is _nowhere else self._references(skb, sk, destructor),
        )  # fmt: skip

    def _is_tcp(self, head: int, network_header: int, shinfo: SharedInfo, sk: int) -> bool:
        """Whether gso_type, the header of an IP packet or the socket says that it is a TCP segment.

        Only the socket says it of those that were copied together without headers; net/ipv4/tcp_input.c: tcp_collapse.
        """
        if shinfo.gso_type & self._tcp_types:
            return True
        header = self._ip_header(head, network_header)
        protocol = {4: header[9], 6: header[6]}.get(header[0] >> 4)
        return protocol == _IPPROTO_TCP or self._is_of_tcp(sk)

    def _is_of_tcp(self, sk: int) -> bool:
        try:
            return sk != 0 and self._session.once(Socks).read(sk).is_tcp
        except (Unreadable, MissingDebugInfo):
            return False

    def _is_fragment(self, head: int, network_header: int) -> bool:
        """Whether the header of an IP packet says that it is a fragment of one."""
        header = self._ip_header(head, network_header)
        if header[0] >> 4 == 6:
            return header[6] == _NEXTHDR_FRAGMENT
        return header[0] >> 4 == 4 and bool(int.from_bytes(header[6:8], "big") & _IP_MF_AND_OFFSET)

    def _ip_header(self, head: int, network_header: int) -> bytes:
        """Where an IP header should be; zeros where that cannot be read, or nobody says where."""
        if network_header < 0:
            return bytes(_IPV6_HEADER)
        try:
            return self._memory.read(head + network_header, _IPV6_HEADER)
        except Unreadable:
            return bytes(_IPV6_HEADER)

    def _references(self, skb: int, sk: int, destructor: int) -> References:
        """What the sk_buff at an address refers to, and what else not every kernel has."""
        values = dict(zip(self._more_names, self._more.unpack_from(*self._memory.block(skb, self._more.span))))
        get = values.get
        dst, nfct, active = get("refdst", 0), get("nfct", 0), get("active_extensions", 0)
        extensions = get("extensions", 0) if active else 0
        # Without a socket, TCP's list of what it has sent may stand in the destructor's place (tcp_tsorted_anchor).
        is_elsewhere = sk == 0 and is_kernel_address(destructor)
        is_partial = get("ip_summed") == _CHECKSUM_PARTIAL and "csum_start" in values
        return References(
            get("dev", 0), dst, nfct, extensions, active, self._known_extensions, self._has_scratch,
            self._place(dst & _POINTER), self._place(nfct & _POINTER), self._place(extensions),
            get("fclone"), get("head_frag"), not destructor or is_elsewhere or self._is_function(destructor),
            self._sk_may_be_offset,
            values["csum_start"] + values["csum_offset"] + _CHECKSUM_SIZE if is_partial else None,
            tuple([(name, values[name]) for name in self._inner_headers if values[name]]),
        )  # fmt: skip

    def _place(self, addr: int) -> Allocation:
        return self._session.once(Allocations).of(addr) if is_kernel_address(addr) else _UNKNOWN

    def _is_function(self, addr: int) -> bool:
        """Whether a function begins there, for all that is known."""
        found = self._functions.get(addr)
        if found is None:
            source = self._session.once(Source)
            found = source.symbol(addr)[1] in (0, None) if source.in_kernel(addr) else source.is_text(addr)
            self._functions[addr] = found
        return found

    def sharing(self, addresses: Collection[int]) -> list[list[Skb]]:
        """Those of some sk_buffs (addresses) that have the same head, together, one list for each such head."""
        heads = sorted(self._heads(addresses))
        found: dict[int, dict[int, Skb]] = {one: {} for one, other in zip(heads, heads[1:]) if one == other and one}
        if found:
            for addr, head in zip(addresses, self._heads(addresses)):
                if head in found:
                    found[head][addr] = self.read(addr)
        return [list(group.values()) for group in found.values()]

    def _heads(self, addresses: Iterable[int]) -> Iterator[int]:
        """The head of each sk_buff, 0 where that cannot be read."""
        for addr in addresses:
            try:
                yield self._ends.unpack_from(*self._memory.block(addr, self._ends.span))[0]
            except Unreadable:
                yield 0

    def looks_alive(self, skb: int) -> bool:
        """Whether memory that an skb cache has allocated holds an sk_buff at all: a cache may be merged with others."""
        try:
            found = self._alive.unpack_from(*self._memory.block(skb, self._alive.span))
        except Unreadable:
            return False
        length, data_len, head, truesize, users = found
        # kTLS lends itself a receive queue as the frag_list of one of its own, whose truesize is its len, as no other's
        # is, and which keeps that when the queue goes on (net/tls/tls_strp.c: tls_strp_load_anchor_with_queue).
        is_anchor = truesize == length == data_len
        return data_len <= length and truesize >= self.size and users > 0 and is_kernel_address(head) and not is_anchor

    def _buffer(self, head: int, size: int) -> bytes:
        """The bytes of a buffer and its shared info, as far as they can be read."""
        return self._memory.read_prefix(head, size)[0] if 0 < size <= _LARGEST_BUFFER else b""

    def _with_foreign(self, chain: FragList) -> FragList:
        """The same chain with the first member that is no allocated sk_buff."""
        places = self._session.once(Allocations)
        for member in chain.skbs:
            place = places.of(member)
            if place.kind == "free" or (place.kind == "slab" and not (place.is_skb and place.state != "free")):
                what = f"a free object of {place.cache}" if place.state == "free" else f"an object of {place.cache}"
                return replace(chain, foreign=(member, what if place.cache else "a free page"))
        return chain

    def _with_room(self, frag: Frag) -> Frag:
        """The same fragment with what its `struct page *` says of the memory behind it."""
        try:
            pages = self._session.once(Pages)
        except (Unreadable, MissingDebugInfo):
            return frag  # nothing says where the struct pages are: Allocations.why_unknown says why
        if not pages.is_page(frag.page):
            return replace(frag, room=0)
        try:
            found = pages.find(pages.address_of(frag.page))
        except Unreadable:
            return frag
        if found is None:
            return frag
        if found.is_stray:
            return replace(frag, room=0)
        # The offset counts from this page, which may be in the middle of a compound one.
        room = found.start + (PAGE_SIZE << found.order) - pages.address_of(frag.page)
        is_free = found.is_free or (found.refcount <= 0 and not found.is_slab)
        return replace(frag, room=room, is_free=is_free, is_slab=found.is_slab)

    def read_shinfo(self, addr: int) -> SharedInfo:
        """The shared info at a `struct skb_shared_info *`; raises Unreadable."""
        block, at = self._memory.block(addr, self._shinfo.span)
        values = self._shinfo.unpack_from(block, at)
        nr_frags, dataref, frag_list, gso_size, gso_segs, gso_type, tx_flags, destructor_arg, zerocopy = values
        frags = self._frags(addr + self._frags_offset, min(nr_frags, self.max_frags))
        return SharedInfo(
            addr, nr_frags, dataref, frag_list, gso_size, gso_segs, gso_type, tx_flags, destructor_arg,
            bool(zerocopy & self._zerocopy_bit), self.max_frags, self._gso_types, frags,
            self._chain(frag_list) if frag_list else _NO_CHAIN, zerocopy if self._flags else 0, self._flags,
            self._gso_protocols,
            self._cleared or self._frags_offset + (len(frags) if nr_frags <= self.max_frags else 0) * self._frag.size,
        )  # fmt: skip

    def _frags(self, addr: int, count: int) -> tuple[Frag, ...]:
        if not count:
            return ()
        size, unpack = self._frag.size, self._frag.unpack_from
        block, at = self._memory.block(addr, count * size)
        frags = (unpack(block, at + number * size) for number in range(count))
        return tuple(Frag(page=page, offset=offset, size=length) for page, offset, length in frags)

    def _chain(self, first: int) -> FragList:
        skbs: dict[int, None] = {}  # a dict for its order
        total, skb = 0, first
        while skb:
            if skb in skbs:
                return FragList(tuple(skbs), total, cycle=skb)
            if len(skbs) >= walks.max_elements():
                return FragList(tuple(skbs), total, hole=Unreadable(skb, Why.UNKNOWN))
            if not is_kernel_address(skb):
                # A pointer that no kernel has: nothing worth a request, and the rule sees the pointer itself.
                return FragList(tuple(skbs), total, hole=Unreadable(skb, Why.UNMAPPED))
            try:
                following, length = self._links.unpack_from(*self._memory.block(skb, self._links.span))
            except Unreadable as error:
                return FragList(tuple(skbs), total, hole=error.as_value())
            skbs[skb] = None
            total += length
            skb = following
        return FragList(tuple(skbs), total)


_NO_CHAIN = FragList((), 0)
_UNKNOWN = Allocation("unknown")
_NO_REFERENCES = References()


def _address(head: int, position: int, is_offset: bool) -> int:
    """The address behind a sk_buff_data_t."""
    return (head + position) & (1 << 64) - 1 if is_offset else position


def _nowhere(addr: int) -> Allocation:
    """The place of every address, for whoever does not want to know."""
    return _UNKNOWN
