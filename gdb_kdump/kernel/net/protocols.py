"""Handlers of protocols, families of sockets, and what sockets call; net/ipv4/protocol.c, net/socket.c."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.lists import list_for_each
from gdb_kdump.kernel.module.code import CodeOwners
from gdb_kdump.records.code import Hook
from gdb_kdump.session import Session
from gdb_kdump.text import escape, is_kernel_address
from gdb_kdump.walks import Gaps, walk

# The variable, an array of pointers; the words for it; and the function in what they point to.
_TABLES = (
    ("inet_protos", "protocol", "IPv4", "net_protocol.handler"),
    ("inet6_protos", "protocol", "IPv6", "inet6_protocol.handler"),
    ("inet_offloads", "offload", "IPv4", "net_offload.gro_receive"),
    ("inet6_offloads", "offload", "IPv6", "net_offload.gro_receive"),
    ("net_families", "family", "AF", "net_proto_family.create"),
)
_METHODS = ("sendmsg", "recvmsg", "close")  # of a struct proto, which need not have all of them


class Protocols:
    """Reads the protocols of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._code = session.once(CodeOwners)

    def all(self, gaps: Gaps) -> Iterator[Hook]:
        """Each handler of an IP protocol, of GRO, of a socket family, and each struct proto."""
        for symbol, kind, where, function in _TABLES:
            try:
                yield from self._table(symbol, kind, where, function)
            except (Unreadable, MissingDebugInfo) as error:
                gaps.note(f"{symbol}: {error}")
        with gaps.about("proto_list") as broken, walk("the list", broken) as steps:
            yield from steps(self._protos())

    def _table(self, symbol: str, kind: str, where: str, function: str) -> Iterator[Hook]:
        table = self._session.debuginfo.find_address(symbol)
        if table is None:  # IPv6 can be a module
            return
        data = self._session.memory.read(table, self._session.debuginfo.size(symbol))
        for number, (entry,) in enumerate(struct.iter_unpack("<Q", data[: len(data) & -8])):
            if is_kernel_address(entry):
                addr = self._session.pointer(entry, function)
                if addr:
                    yield Hook(kind, f"{where} {number}", entry, self._code.of(addr))

    def _protos(self) -> Iterator[Hook]:
        session, layout = self._session, self._session.layout
        head, node = session.debuginfo.find_address("proto_list"), layout.offset("proto.node")
        member = layout.member("proto.name")
        methods = [name for name in _METHODS if layout.find_member(f"proto.{name}") is not None]
        for link in list_for_each(session, head) if head is not None else ():
            addr = link - node
            functions = ((name, session.pointer(addr, f"proto.{name}")) for name in methods)
            method, function = next((pair for pair in functions if pair[1]), ("", 0))
            if function:
                name = escape(session.memory.cstring(addr + member.offset, member.size))
                yield Hook("proto", f"{name} {method}", addr, self._code.of(function))
