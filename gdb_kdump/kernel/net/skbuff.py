"""struct sk_buff and what it holds, read into records; include/linux/skbuff.h."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import fields, replace
from functools import partial

from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.mm.allocations import Allocations
from gdb_kdump.kernel.module.source import Source
from gdb_kdump.kernel.net.freed_skb import overwritten_members
from gdb_kdump.kernel.net.shared_info import SharedInfos
from gdb_kdump.kernel.net.sock import Socks
from gdb_kdump.layout.net import skb_counts_from_head, skb_inner_headers
from gdb_kdump.records.allocation import UNKNOWN, Allocation
from gdb_kdump.records.skb import (
    Held,
    References,
    SharedInfo,
    Skb,
    SkbFacts,
    SkbMembers,
    SkbMemory,
    on_a_queue,
)
from gdb_kdump.session import Session
from gdb_kdump.text import is_kernel_address

_LARGEST_TRUESIZE = 1 << 31
_LARGEST_BUFFER = 1 << 20  # no kmalloc'd head is larger; a damaged one claims anything

_IPPROTO_TCP, _NEXTHDR_FRAGMENT, _IPV6_HEADER = 6, 44, 40  # include/uapi/linux/in.h; bytes
_IP_MF_AND_OFFSET = 0x3FFF  # include/net/ip.h: IP_MF | IP_OFFSET
_HEADERS = ("mac_header", "network_header", "transport_header")
_SKB_MEMBERS = tuple(field.name for field in fields(SkbMembers))
# What can be judged without: with these values no rule finds fault with what is not known.
_SKB_INSTEAD = {"tail": 0, "cloned": 1, "nohdr": 0, "destructor": 0, **dict.fromkeys(_HEADERS, -1)}
# Not every kernel has them; those whose name begins with inner_ are headers, too.
_MORE_MEMBERS = (
    "dev", "dev_scratch", "refdst", "nfct", "extensions", "active_extensions", "fclone", "head_frag", "ip_summed",
    "csum_start", "csum_offset", "inner_mac_header", "inner_network_header", "inner_transport_header", "protocol",
    "encapsulation",
)  # fmt: skip
_MOST_REFERENCES = 2000  # that are kept
_POINTER = ~7  # of an address with flags in its lowest bits
_CHECKSUM_PARTIAL, _CHECKSUM_SIZE = 3, 2  # include/linux/skbuff.h, always the same number; bytes
_GSO_PROTOCOLS = ("TCPV4", "TCPV6", "UDP", "UDP_L4", "SCTP", "FCOE")  # those that leave the segments to one of them


_GSO_TUNNELS = ("GRE", "GRE_CSUM", "IPXIP4", "IPXIP6", "IPIP", "SIT", "UDP_TUNNEL", "UDP_TUNNEL_CSUM")
_OTHER_FAMILY = {0x0800: "TCPV6", 0x86DD: "TCPV4"}  # include/uapi/linux/if_ether.h: ETH_P_IP, ETH_P_IPV6


class Skbs:
    """Reads the sk_buffs of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        layout = session.layout
        self._skb = layout.unpacker("sk_buff", _SKB_MEMBERS, _SKB_INSTEAD)
        absent = layout.absent("sk_buff", _SKB_INSTEAD)
        missing = [f"sk_buff.{name}" for name in absent]
        self._shinfos = session.once(SharedInfos)
        missing += [f"skb_shared_info.{name}" for name in self._shinfos.absent]
        self.gaps = tuple(str(MissingDebugInfo(f"member {name}")) for name in missing)
        """What the types lack of an sk_buff, so that it is not judged."""
        self._has_tail = "tail" not in absent
        self._ends = layout.unpacker("sk_buff", ("head", "end"))
        self._alive = layout.unpacker("sk_buff", ("len", "data_len", "head", "truesize", "users"))
        self._counted = [name in absent or skb_counts_from_head(layout, name) for name in _HEADERS]
        self._are_counted = all(self._counted)
        # A header that was never set has all bits set; a pointer to it is NULL.
        sizes = [0 if name in absent else layout.member(f"sk_buff.{name}").size for name in _HEADERS]
        unset = [(1 << 8 * size) - 1 if size else _SKB_INSTEAD[name] for name, size in zip(_HEADERS, sizes)]
        self._unset = [value if counted else None for value, counted in zip(unset, self._counted)]
        gso_types = session.debuginfo.enum_with("SKB_GSO_TCPV4")
        self._tcp_types = gso_types.get("SKB_GSO_TCPV4", 0) | gso_types.get("SKB_GSO_TCPV6", 0)
        self._more_names = [name for name in _MORE_MEMBERS if layout.find_member(f"sk_buff.{name}") is not None]
        self._more = layout.unpacker("sk_buff", self._more_names)
        self._inner_headers = [name for name in self._more_names if name in skb_inner_headers(layout)]
        self._functions: dict[int, bool] = {}
        self._known_references: dict[tuple[tuple[int, ...], int, bool], References] = {}
        self._allocation_of: Callable[[int], Allocation] | None = None
        self.size = self._skb.size
        self.end_is_offset = skb_counts_from_head(layout, "end")
        self._tail_is_offset = self._has_tail and skb_counts_from_head(layout, "tail")
        self.facts = SkbFacts(
            size=self.size,
            shinfo_size=self._shinfos.size,
            unset_header=self._unset[-1] or 0,
            max_frags=self._shinfos.max_frags,
            known_gso_types=session.debuginfo.enum_bits("SKB_GSO_TCPV4"),
            gso_protocols=sum(gso_types.get(f"SKB_GSO_{name}", 0) for name in _GSO_PROTOCOLS),
            gso_of_families=tuple(
                (family, gso_types.get(f"SKB_GSO_{other}", 0)) for family, other in _OTHER_FAMILY.items()
            ),
            gso_tunnels=sum(gso_types.get(f"SKB_GSO_{name}", 0) for name in _GSO_TUNNELS),
            gso_whole=gso_types.get("SKB_GSO_FRAGLIST", 0),
            known_flags=self._shinfos.known_flags,
            known_extensions=(1 << session.debuginfo.enum_with("SKB_EXT_NUM").get("SKB_EXT_NUM", 0)) - 1,
            has_scratch="dev_scratch" in self._more_names,
            # Where a fragment of an IP packet has its offset in the socket's place: there is a member for it.
            sk_may_be_offset=layout.find_member("sk_buff.ip_defrag_offset") is not None,
        )

    def skb_end_pointer(self, skb: int) -> int:
        """The end of the linear buffer (address) of the `struct sk_buff *` skb.

        Raises Unreadable.
        """
        head, end = self._ends.unpack_from(*self._memory.block(skb, self._ends.span))
        return _address(head, end, self.end_is_offset)

    def read(self, skb: int) -> Skb:
        """The sk_buff at the `struct sk_buff *` skb with its shared info; raises Unreadable for skb itself only."""
        return self._read(skb)

    def read_with_buffer(self, skb: int) -> Skb:
        """The same with the bytes of the buffer."""
        record = self.read(skb)
        return replace(record, buffer=self._buffer_of(record.members.head, record.end))

    def read_for_rules(self, skb: int, held: Callable[[], Held]) -> Skb:
        """The same with what memory it, its buffer and its fragments stand in, and all else that rules ask for."""
        return self._read(skb, held)

    def _read(self, skb: int, held: Callable[[], Held] | None = None) -> Skb:
        members = SkbMembers(*self._skb.unpack_from(*self._memory.block(skb, self._skb.span)))
        head = members.head
        end, tail = _address(head, members.end, self.end_is_offset), _address(head, members.tail, self._tail_is_offset)
        shinfo: SharedInfo | Unreadable
        try:
            shinfo = self._shinfos.read(end)
        except Unreadable as error:
            shinfo = error.as_value()
        memory, references = _NOT_ASKED_FOR, _NO_REFERENCES
        buffer: Callable[[], bytes] = bytes
        if held is not None:
            references = self._references(skb, members)
            memory = self._memory_of(skb, members, references)
            buffer = self._buffer_of(head, end)
            if isinstance(shinfo, SharedInfo):
                shinfo = self._shinfos.with_memory(shinfo)
        return Skb(
            addr=skb,
            members=members,
            facts=self.facts,
            tail=tail if self._has_tail else members.data + members.len - members.data_len,
            end=end,
            headers=self._headers(members),
            shinfo=shinfo,
            memory=memory,
            references=references,
            overwritten=overwritten_members(self._session, skb) if memory.skb.state == "free" else frozenset(),
            is_tcp=isinstance(shinfo, SharedInfo)
            and bool(shinfo.gso_size or shinfo.gso_segs)
            and self._is_tcp(members, shinfo),
            is_fragment=not self.size <= members.truesize < _LARGEST_TRUESIZE and self._is_fragment(members),
            buffer=buffer,
            held=held or on_a_queue,
        )

    def _headers(self, members: SkbMembers) -> tuple[tuple[str, int | None], ...]:
        """The headers as offsets from head, whatever the kernel stores."""
        mac: int | None = members.mac_header
        network: int | None = members.network_header
        transport: int | None = members.transport_header
        if not self._are_counted:
            mac, network, transport = [
                at if counted else at - members.head if at else None
                for at, counted in zip((mac, network, transport), self._counted)
            ]
        no_mac, no_network, no_transport = self._unset
        return (
            ("mac_header", None if mac == no_mac else mac),
            ("network_header", None if network == no_network else network),
            ("transport_header", None if transport == no_transport else transport),
        )

    def _memory_of(self, skb: int, members: SkbMembers, references: References) -> SkbMemory:
        of = self._allocation_of = self._allocation_of or self._session.once(Allocations).of
        return SkbMemory(
            of(skb),
            of(members.head),
            of(members.sk) if members.sk and members.destructor else UNKNOWN,
            self._place(references.dst & _POINTER) if references.dst else UNKNOWN,
            self._place(references.nfct & _POINTER) if references.nfct else UNKNOWN,
            self._place(references.extensions) if references.extensions else UNKNOWN,
        )

    def _is_tcp(self, members: SkbMembers, shinfo: SharedInfo) -> bool:
        """Whether gso_type, the header of an IP packet or the socket says that it is a TCP segment.

        Only the socket says it of those that were copied together without headers; net/ipv4/tcp_input.c: tcp_collapse.
        """
        if shinfo.gso_type & self._tcp_types:
            return True
        header = self._ip_header(members)
        protocol = {4: header[9], 6: header[6]}.get(header[0] >> 4)
        return protocol == _IPPROTO_TCP or self._is_of_tcp(members.sk)

    def _is_of_tcp(self, sk: int) -> bool:
        try:
            return sk != 0 and self._session.once(Socks).read(sk).is_tcp
        except (Unreadable, MissingDebugInfo):
            return False

    def _is_fragment(self, members: SkbMembers) -> bool:
        """Whether the header of an IP packet says that it is a fragment of one."""
        header = self._ip_header(members)
        if header[0] >> 4 == 6:
            return header[6] == _NEXTHDR_FRAGMENT
        return header[0] >> 4 == 4 and bool(int.from_bytes(header[6:8], "big") & _IP_MF_AND_OFFSET)

    def _ip_header(self, members: SkbMembers) -> bytes:
        """What stands where an IP header should; zeros where that cannot be read, or nobody says where."""
        if members.network_header < 0:
            return bytes(_IPV6_HEADER)
        try:
            return self._memory.read(members.head + members.network_header, _IPV6_HEADER)
        except Unreadable:
            return bytes(_IPV6_HEADER)

    def _references(self, skb: int, members: SkbMembers) -> References:
        """What the sk_buff at an address refers to, and what else not every kernel has."""
        more = self._more.unpack_from(*self._memory.block(skb, self._more.span))
        # Those of a flood hardly differ.
        key = (more, members.destructor, members.sk == 0)
        known = self._known_references.get(key)
        if known is None:
            if len(self._known_references) >= _MOST_REFERENCES:
                self._known_references.clear()
            known = self._known_references[key] = self._to_references(dict(zip(self._more_names, more)), members)
        return known

    def _to_references(self, values: dict[str, int], members: SkbMembers) -> References:
        get = values.get
        active = get("active_extensions", 0)
        # Without a socket, TCP's list of what it has sent may stand in the destructor's place (tcp_tsorted_anchor).
        destructor = members.destructor
        is_elsewhere = members.sk == 0 and is_kernel_address(destructor)
        is_partial = get("ip_summed") == _CHECKSUM_PARTIAL and "csum_start" in values
        return References(
            dev=get("dev", 0),
            dst=get("refdst", 0),
            nfct=get("nfct", 0),
            extensions=get("extensions", 0) if active else 0,
            active_extensions=active,
            fclone=get("fclone"),
            head_frag=get("head_frag"),
            is_destroyed_by_function=not destructor or is_elsewhere or self._is_function(destructor),
            checksum_at=values["csum_start"] + values["csum_offset"] + _CHECKSUM_SIZE if is_partial else None,
            protocol=_swapped(get("protocol", 0)),
            is_encapsulated=bool(get("encapsulation", 1)),
            inner_headers=tuple([(name, values[name]) for name in self._inner_headers if values[name]]),
        )

    def _place(self, addr: int) -> Allocation:
        return self._session.once(Allocations).of(addr) if is_kernel_address(addr) else UNKNOWN

    def _is_function(self, addr: int) -> bool:
        """Whether a function begins there, for all that is known."""
        is_function = self._functions.get(addr)
        if is_function is None:
            source = self._session.once(Source)
            is_function = source.symbol(addr)[1] in (0, None) if source.in_kernel(addr) else source.is_text(addr)
            self._functions[addr] = is_function
        return is_function

    def sharing(self, addresses: Collection[int]) -> list[list[Skb]]:
        """Those of some sk_buffs (addresses) that have the same head, together, one list for each such head."""
        heads = sorted(self._heads(addresses))
        groups: dict[int, dict[int, Skb]] = {one: {} for one, other in zip(heads, heads[1:]) if one == other and one}
        if groups:
            for addr, head in zip(addresses, self._heads(addresses)):
                if head in groups:
                    groups[head][addr] = self.read(addr)
        return [list(group.values()) for group in groups.values()]

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
            alive = self._alive.unpack_from(*self._memory.block(skb, self._alive.span))
        except Unreadable:
            return False
        length, data_len, head, truesize, users = alive
        # kTLS lends itself a receive queue as the frag_list of one of its own, whose truesize is its len, as no other's
        # is, and which keeps that when the queue goes on (net/tls/tls_strp.c: tls_strp_load_anchor_with_queue).
        is_anchor = truesize == length == data_len
        return data_len <= length and truesize >= self.size and users > 0 and is_kernel_address(head) and not is_anchor

    def _buffer_of(self, head: int, end: int) -> Callable[[], bytes]:
        """Reads the bytes of a buffer and its shared info, as far as they can be read."""
        size = end - head + self._shinfos.size
        return partial(self._read_prefix, head, size) if 0 < size <= _LARGEST_BUFFER else bytes

    def _read_prefix(self, addr: int, size: int) -> bytes:
        return self._memory.read_prefix(addr, size)[0]


_NOT_ASKED_FOR = SkbMemory()
_NO_REFERENCES = References()


def _swapped(number: int) -> int:
    """A __be16, which was read as the machine has numbers."""
    return (number & 0xFF) << 8 | number >> 8


def _address(head: int, position: int, is_offset: bool) -> int:
    """The address that a sk_buff_data_t means."""
    return (head + position) & (1 << 64) - 1 if is_offset else position
