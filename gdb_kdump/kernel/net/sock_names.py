"""What a socket is called: its protocol, its state, and its two ends, in the words of the kernel's own types."""

from __future__ import annotations

import ipaddress

from gdb_kdump.errors import Unreadable
from gdb_kdump.kernel.lib.lists import list_for_each
from gdb_kdump.kernel.net.sock import AF_INET, AF_NETLINK, AF_PACKET, AF_UNIX, Sock
from gdb_kdump.layout.unpacker import Unpacker
from gdb_kdump.session import Session

_MAX_UNIX_PATH = 108  # include/uapi/linux/un.h: UNIX_PATH_MAX
_FAMILY_SIZE = 2  # sun_family stands before the path

_ENDS = ("rcv_saddr", "daddr", "num", "dport")

Ends = tuple[str, str]


class SockNames:
    """Names sockets of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._layout = layout = session.layout
        self._prot, self._prot_name = layout.find_member("sock.prot"), layout.find_member("proto.name")
        self._inet = layout.unpacker("inet_sock", _ENDS)
        # A request has no struct inet_sock, only the struct sock_common that it begins with.
        self._common_has_ends = self._inet.span <= layout.size("sock_common")
        self._prots: dict[int, str] = {}
        self._states = self._enumerators("TCP_ESTABLISHED", "TCP_")
        self._netlink_states = self._enumerators("NETLINK_CONNECTED", "NETLINK_")
        self._unpackers: dict[str, Unpacker] = {}

    def _enumerators(self, one: str, prefix: str) -> dict[int, str]:
        """The enumerators of the enum that has `one`, by number, without their common prefix."""
        return {number: name.removeprefix(prefix) for name, number in self._session.debuginfo.enum_with(one).items()}

    def protocol(self, sock: int) -> str:
        """sk_prot->name of a `struct sock *`, as in /proc/net/protocols ("TCP", "UNIX-STREAM"); raises Unreadable.

        "?" where the types lack it: known_protocols() says what they lack.
        """
        if self._prot is None or self._prot_name is None:
            return "?"
        prot = self._memory.ptr(sock + self._prot.offset)
        if prot not in self._prots:
            name = self._memory.cstring(prot + self._prot_name.offset, self._prot_name.size)
            self._prots[prot] = name.decode("ascii", "backslashreplace")
        return self._prots[prot]

    def known_protocols(self) -> set[str]:
        """The names of all registered protocols; net/core/sock.c: proto_list.

        Raises Unreadable, Corrupt, MissingDebugInfo.
        """
        self._layout.offset("sock.prot")
        node, name = self._layout.offset("proto.node"), self._layout.member("proto.name")
        return {
            self._memory.cstring(at - node + name.offset, name.size).decode("ascii", "backslashreplace")
            for at in list_for_each(self._session, self._session.debuginfo.address("proto_list"))
        }

    def state(self, sock: Sock) -> str:
        """The name of sk_state: TCP's (include/net/tcp_states.h), which all families use, or netlink's own."""
        own = self._netlink_states if sock.family == AF_NETLINK else {}
        return own.get(sock.state) or self._states.get(sock.state) or str(sock.state)

    def ends(self, sock: Sock) -> Ends:
        """The local and the peer's address, "" where there is none; raises Unreadable, MissingDebugInfo."""
        if sock.is_time_wait:
            return self._inet_ends(sock, self._unpacker("inet_timewait_sock", _ENDS))
        if sock.is_inet and (sock.is_full or self._common_has_ends):
            return self._inet_ends(sock, self._inet)
        if not sock.is_full:
            return "", ""
        if sock.family == AF_UNIX:
            peer = self._read("unix_sock", ("peer",), sock.addr)[0]
            return self._unix_name(sock.addr), self._peer_name(peer) if peer else ""
        if sock.family == AF_NETLINK:
            portid, peer, group = self._read("netlink_sock", ("portid", "dst_portid", "dst_group"), sock.addr)
            return f"port {portid}", f"port {peer}" if not group else f"port {peer} group {group}"
        if sock.family == AF_PACKET:
            number, interface = self._read("packet_sock", ("num", "ifindex"), sock.addr)
            return f"ethertype 0x{_swapped(number):04x}" + (f" ifindex {interface}" if interface else ""), ""
        return "", ""

    def _inet_ends(self, sock: Sock, ends: Unpacker) -> Ends:
        local4, peer4, port, peer_port = ends.unpack_from(*self._memory.block(sock.addr, ends.span))
        if sock.family == AF_INET:
            local: str = str(ipaddress.IPv4Address(_swapped(local4, 4)))
            peer: str = str(ipaddress.IPv4Address(_swapped(peer4, 4)))
        else:
            has_addresses = sock.is_full or self._layout.find_member("sock.v6_daddr") is not None
            names = ("sock.v6_rcv_saddr", "sock.v6_daddr") if has_addresses else ()
            local, peer = [self._ipv6(sock.addr, name) for name in names] or ("[?]", "[?]")
        peer_port = _swapped(peer_port)
        connected = peer_port or peer not in ("0.0.0.0", "[::]")
        return f"{local}:{port}", f"{peer}:{peer_port}" if connected else ""

    def _ipv6(self, sock: int, name: str) -> str:
        member = self._layout.find_member(name)
        if member is None:
            # efe4208f47f9 (v3.13) ipv6: make lookups simpler and faster: the addresses were in struct ipv6_pinfo.
            sock = self._session.pointer(sock, "inet_sock.pinet6")
            member = self._layout.member(f"ipv6_pinfo.{name.removeprefix('sock.v6_')}")
        address = ipaddress.IPv6Address(self._memory.read(sock + member.offset, 16))
        return f"[{address}]"

    def _peer_name(self, peer: int) -> str:
        try:
            return self._unix_name(peer) or f"sock 0x{peer:016x}"
        except Unreadable:
            return f"sock 0x{peer:016x}"

    def _unix_name(self, sock: int) -> str:
        """The path a UNIX socket is bound to, an abstract one with @ in front, or ""; include/uapi/linux/un.h."""
        (addr,) = self._read("unix_sock", ("addr",), sock)
        if not addr:
            return ""
        (length,) = self._read("unix_address", ("len",), addr)
        path = self._memory.read(
            addr + self._layout.offset("unix_address.name") + _FAMILY_SIZE,
            max(0, min(length - _FAMILY_SIZE, _MAX_UNIX_PATH)),
        )
        if path[:1] == b"\0":
            return "@" + path[1:].decode("utf-8", "backslashreplace")
        return path.split(b"\0")[0].decode("utf-8", "backslashreplace")

    def _read(self, tag: str, members: tuple[str, ...], addr: int) -> tuple[int, ...]:
        unpacker = self._unpacker(tag, members)
        return unpacker.unpack_from(*self._memory.block(addr, unpacker.span))

    def _unpacker(self, tag: str, members: tuple[str, ...]) -> Unpacker:
        key = f"{tag}.{members[0]}"
        if key not in self._unpackers:
            self._unpackers[key] = self._layout.unpacker(tag, members)
        return self._unpackers[key]


def _swapped(number: int, size: int = 2) -> int:
    """A __be16, or with `size` 4 a __be32, in host order."""
    return int.from_bytes((number & (1 << 8 * size) - 1).to_bytes(size, "little"), "big")
