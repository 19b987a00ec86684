"""Where the kernel keeps its sockets: the hash tables and lists of each protocol and network namespace."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.hash_tables import chain, chained, rhashtable
from gdb_kdump.kernel.net.namespaces import Nets
from gdb_kdump.layout.members import array_length
from gdb_kdump.layout.net import ehash_length, embedded_udp_hash, listening_hash, unix_hash
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps

_EVERYWHERE = ("tcp_hashinfo", "udp_table", "raw_v4_hashinfo")  # the tables that every kernel with IP has
_MAX_LINKS = 32  # include/uapi/linux/netlink.h: the netlink families, which is the length of nl_table


class SockTables:
    """Walks the tables of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._layout = session.layout
        self._node = self._layout.offset("sock.node")
        self._nulls_node = self._layout.offset("sock.nulls_node")

    def all(self, gaps: Gaps) -> Iterator[tuple[str, int]]:
        """(table, `struct sock *`) of every socket in a table; one can be in several.

        What is broken, and which tables this kernel does not have, goes to `gaps`.
        """
        nets = self._session.once(Nets).all(gaps)
        tables: list[tuple[str, Callable[[Gaps], Iterator[int]]]] = [
            ("tcp", lambda broken: self._hashinfos("tcp_hashinfo", nets, broken)),
            ("dccp", lambda broken: self._hashinfos("dccp_hashinfo", [], broken)),
            ("udp", lambda broken: self._udp("udp_table", nets, broken)),
            ("udplite", lambda broken: self._udp("udplite_table", [], broken)),
            ("raw", lambda broken: self._raw("raw_v4_hashinfo", broken)),
            ("rawv6", lambda broken: self._raw("raw_v6_hashinfo", broken)),
            ("ping", self._ping),
            ("unix", lambda broken: self._unix(nets, broken)),
            ("netlink", self._netlink),
            ("packet", lambda broken: self._per_net("net.packet_list", nets, broken)),
            ("xdp", lambda broken: self._per_net("net.xdp_list", nets, broken)),
        ]
        for name, socks in tables:
            with gaps.about(f"the {name} table") as broken:
                try:
                    for sock in socks(broken):
                        yield name, sock
                except (Unreadable, Corrupt, MissingDebugInfo) as error:
                    broken.note(str(error))

    def _hashinfos(self, symbol: str, nets: list[int], gaps: Gaps) -> Iterator[int]:
        """Established, TIME_WAIT and half-open sockets (ehash) and listening ones; include/net/inet_hashtables.h."""
        tables = self._tables(symbol, "net.tcp_hashinfo", nets)
        memory, layout = self._memory, self._layout
        size = layout.size("inet_ehash_bucket")
        heads = [layout.member("inet_ehash_bucket.first"), layout.find_member("inet_ehash_bucket.tw_first")]
        buckets = [(size, head.offset) for head in heads if head is not None]
        for info in tables:
            table = self._session.pointer(info, "inet_hashinfo.ehash")
            counted, more = ehash_length(layout)
            count = self._session.number(info, counted) + more
            if table:
                for chains in buckets:
                    yield from self._socks(chained(self._session, table, count, *chains, gaps), self._nulls_node)
            listening, slots = listening_hash(layout)
            if slots is None:
                first = memory.ptr(info + listening)
                count = self._session.number(info, "inet_hashinfo.lhash2_mask") + 1 if first else 0
            else:
                first, count = info + listening, slots
            # TCP's and DCCP's own: hash buckets with a lock before or after the chain.
            place = layout.size("inet_listen_hashbucket"), layout.offset("inet_listen_hashbucket.first")
            yield from self._socks(chained(self._session, first, count, *place, gaps), self._nulls_node)

    def _udp(self, symbol: str, nets: list[int], gaps: Gaps) -> Iterator[int]:
        """include/net/udp.h: struct udp_table."""
        layout = self._layout
        place = layout.size("udp_hslot"), layout.offset("udp_hslot.first")
        for table in self._tables(symbol, "net.udp_table", nets):
            embedded = embedded_udp_hash(layout)
            if embedded is not None:
                slots, count = table + embedded.offset, array_length(embedded)
            else:
                slots = self._session.pointer(table, "udp_table.hash")
                count = self._session.number(table, "udp_table.mask") + 1
            if slots:
                yield from self._socks(chained(self._session, slots, count, *place, gaps), self._node)

    def _raw(self, symbol: str, gaps: Gaps) -> Iterator[int]:
        """include/net/raw.h: struct raw_hashinfo."""
        table = self._session.debuginfo.find_address(symbol)
        if table is None and symbol in _EVERYWHERE:
            raise MissingDebugInfo(f"symbol {symbol}")
        if table is not None:
            member = self._layout.member("raw_hashinfo.ht")
            buckets = chained(self._session, table + member.offset, array_length(member), 8, 0, gaps)
            yield from self._socks(buckets, self._node)

    def _ping(self, gaps: Gaps) -> Iterator[int]:
        """net/ipv4/ping.c: ping_table."""
        table = self._session.debuginfo.find_address("ping_table")
        if table is not None:
            member = self._layout.member("ping_table.hash")
            buckets = chained(self._session, table + member.offset, array_length(member), 8, 0, gaps)
            yield from self._socks(buckets, self._nulls_node)

    def _unix(self, nets: list[int], gaps: Gaps) -> Iterator[int]:
        """net/unix/af_unix.c: unix_socket_table, or struct unix_table of each network namespace."""
        buckets, count = unix_hash(self._layout)
        if buckets is None:
            tables = [self._session.debuginfo.address("unix_socket_table")]
            count = self._session.debuginfo.size("unix_socket_table") // 8
        else:
            tables = [self._memory.ptr(net + buckets.offset) for net in nets]
        for table in filter(None, dict.fromkeys(tables)):
            yield from self._socks(chained(self._session, table, count, 8, 0, gaps), self._node)

    def _netlink(self, gaps: Gaps) -> Iterator[int]:
        """net/netlink/af_netlink.c: nl_table, whose hashes have the bound sockets, its mc_lists those with groups."""
        layout = self._layout
        table = self._memory.ptr(self._session.debuginfo.address("nl_table"))
        size, groups = layout.size("netlink_table"), layout.offset("netlink_table.mc_list")
        bound = layout.offset("sock.bind_node")
        for family in range(_MAX_LINKS):
            entry = table + family * size
            yield from self._netlink_bound(entry, gaps)
            yield from self._socks(chained(self._session, entry + groups, 1, 8, 0, gaps), bound)

    def _netlink_bound(self, entry: int, gaps: Gaps) -> Iterator[int]:
        """The bound sockets of one netlink family: an rhashtable, in older kernels an array of hlist heads."""
        layout, memory = self._layout, self._memory
        chains = layout.find_member("netlink_table.hash_chains")
        if chains is None:
            nodes = rhashtable(self._session, entry + layout.offset("netlink_table.hash"), gaps)
            yield from self._socks(nodes, layout.offset("netlink_sock.node"))
            return
        table = memory.ptr(entry + chains.offset)
        if table:  # a family that is not registered has none
            count = self._session.number(entry, "netlink_table.hash_mask") + 1
            yield from self._socks(chained(self._session, table, count, 8, 0, gaps), self._node)

    def _per_net(self, name: str, nets: list[int], gaps: Gaps) -> Iterator[int]:
        """A list of sockets in each struct net: packet.sklist, xdp.list."""
        member = self._layout.find_member(name)
        if member is None:
            return
        for net in nets:
            try:
                yield from self._socks(chain(self._session, self._memory.ptr(net + member.offset)), self._node)
            except (Unreadable, Corrupt) as error:
                gaps.note(str(error))

    def _tables(self, symbol: str, member_name: str, nets: list[int]) -> list[int]:
        """The global table and those that network namespaces have of their own; none where the kernel has none."""
        shared = self._session.debuginfo.find_address(symbol)
        tables = [] if shared is None else [shared]
        member = self._layout.find_member(member_name) if nets else None
        if symbol in _EVERYWHERE and shared is None and member is None:
            raise MissingDebugInfo(f"symbol {symbol}", [symbol, member_name])
        if member is not None:
            tables += [self._memory.ptr(net + member.offset) for net in nets]
        return [table for table in dict.fromkeys(tables) if table]

    @staticmethod
    def _socks(nodes: Iterator[int], offset: int) -> Iterator[int]:
        return (node - offset for node in nodes)
