"""One tracked connection, in the words of /proc/net/nf_conntrack; include/net/netfilter/nf_conntrack.h."""

from __future__ import annotations

import ipaddress
import socket

from gdb_kdump.session import Session

_LENGTHS = {2: 4, 10: 16}  # of addresses, by AF_INET and AF_INET6: bytes
_DIRECTIONS = 2  # enum ip_conntrack_dir: original, reply
_ICMP = (socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6)
_CONFIRMED = 1 << 3  # IPS_CONFIRMED: its timeout counts from there on


class Conntracks:
    """Reads the struct nf_conns of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        names = session.debuginfo.enum_with("IPPROTO_UDP")
        self._protocols = {number: name.removeprefix("IPPROTO_").lower() for name, number in names.items()}
        bits = session.debuginfo.enum_with("IPS_CONFIRMED_BIT")
        self._bits = {
            number: name[len("IPS_") : -len("_BIT")]
            for name, number in bits.items()
            if name.startswith("IPS_") and name.endswith("_BIT")
        }

    def words(self, addr: int) -> str:
        """Both tuples of a `struct nf_conn *`, and its state; raises Unreadable, MissingDebugInfo.

        net/netfilter/nf_conntrack_standalone.c: ct_seq_show.
        """
        session = self._session
        first, size = session.layout.offset("nf_conn.tuplehash"), session.layout.size("nf_conntrack_tuple_hash")
        tuple_at = addr + first + session.layout.offset("nf_conntrack_tuple_hash.tuple")
        original, reply = (self._tuple(tuple_at + number * size) for number in range(_DIRECTIONS))
        status = session.number(addr, "nf_conn.status")
        named = [name for bit, name in self._bits.items() if status >> bit & 1]
        rows = [original, f"reply {reply}", f"status {' '.join(named) or hex(status)}", self._timeout(addr, status)]
        rows.append(f"use {session.number(addr, 'nf_conn.ct_general.use')}")
        for name, member in (("mark", "nf_conn.mark"), ("zone", "nf_conn.zone.id")):  # where they are configured
            if session.layout.find_member(member) is not None:
                rows.append(f"{name} {session.number(addr, member):#x}")
        return ", ".join(filter(None, rows))

    def _tuple(self, addr: int) -> str:
        session = self._session
        family, protocol, source, target = (
            session.number(addr, f"nf_conntrack_tuple.{name}")
            for name in ("src.l3num", "dst.protonum", "src.u.all", "dst.u.all")
        )
        length = _LENGTHS.get(family)
        if length is None:
            return f"of family {family}"
        ends = [
            ipaddress.ip_address(
                self._memory.read(addr + session.layout.offset(f"nf_conntrack_tuple.{end}.u3"), length)
            )
            for end in ("src", "dst")
        ]
        source, target = (int.from_bytes(number.to_bytes(2, "little"), "big") for number in (source, target))
        if protocol in _ICMP:
            parts = f"type={target >> 8} code={target & 0xFF} id={source}"
        else:
            parts = f"sport={source} dport={target}"
        return f"{self._protocols.get(protocol, protocol)} src={ends[0]} dst={ends[1]} {parts}"

    def _timeout(self, addr: int, status: int) -> str:
        """When it is given up, "" where a timer would say so (before v4.9) and no time stamp; nf_ct_expires."""
        member = self._session.layout.find_member("nf_conn.timeout")
        now = self._session.debuginfo.find_address("jiffies_64")
        if member is None or now is None or not member.type.strip_typedefs().is_scalar:
            return ""
        timeout = self._session.number(addr, "nf_conn.timeout")
        if not status & _CONFIRMED:
            return f"timeout {timeout} jiffies once it is confirmed"
        left = (timeout - self._memory.u64(now)) & 0xFFFFFFFF
        return "timed out" if left >> 31 else f"timeout in {left} jiffies"
