"""Network namespaces; net/core/net_namespace.c."""

from __future__ import annotations

from gdb_kdump.errors import Unreadable
from gdb_kdump.kernel.lib.lists import list_for_each
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps, walk


class Nets:
    """The network namespaces of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        # 98f842e675f9 (v3.8) proc: Usable inode numbers for the namespace file descriptors.
        self._inum = session.layout.find_member("net.inum")
        self._inums: dict[int, int | None] = {}

    def all(self, gaps: Gaps) -> list[int]:
        """Every `struct net *`, init_net at least; for_each_net."""
        session = self._session
        nets: dict[int, None] = {}
        find = session.debuginfo.find_address
        init_net, head = find("init_net"), find("net_namespace_list")
        if head is not None:
            linked = (node - session.layout.offset("net.list") for node in list_for_each(session, head))
            with gaps.about("the list of network namespaces") as broken, walk("the list", broken) as steps:
                for net in steps(linked):
                    nets.setdefault(net)
        if init_net is not None:
            nets.setdefault(init_net)
        return list(nets)

    def inum(self, net: int) -> int | None:
        """The number of a `struct net *` in /proc/PID/ns/net, or None where that cannot be read."""
        if net not in self._inums:
            try:
                self._inums[net] = self._session.number(net, "net.inum") if self._inum else None
            except Unreadable:
                self._inums[net] = None
        return self._inums[net]
