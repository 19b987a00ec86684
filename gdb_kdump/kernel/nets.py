"""Network namespaces; net/core/net_namespace.c."""

from __future__ import annotations

from gdb_kdump.errors import Corrupt, Unreadable
from gdb_kdump.kernel.lists import list_for_each
from gdb_kdump.session import Session


class Nets:
    """The network namespaces of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._inum = session.layout.offset("net.inum")
        self._inums: dict[int, int | None] = {}

    def all(self) -> tuple[list[int], list[str]]:
        """Every `struct net *`, init_net at least, and sentences on why there may be more; for_each_net."""
        session = self._session
        found: dict[int, None] = {}
        problems: list[str] = []
        find = session.debuginfo.find_address
        init_net, head = find("init_net"), find("net_namespace_list")
        try:
            if head is not None:
                offset = session.layout.offset("net.list")
                for node in list_for_each(session, head):
                    found[node - offset] = None
        except (Unreadable, Corrupt) as error:
            problems.append(f"the list of network namespaces: {error}")
        if init_net is not None:
            found.setdefault(init_net, None)
        return list(found), problems

    def inum(self, net: int) -> int | None:
        """The number of a `struct net *` in /proc/PID/ns/net, or None where that cannot be read."""
        if net not in self._inums:
            try:
                self._inums[net] = self._session.memory.u32(net + self._inum)
            except Unreadable:
                self._inums[net] = None
        return self._inums[net]
