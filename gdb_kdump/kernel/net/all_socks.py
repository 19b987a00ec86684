"""All sockets of the system, with and without a file descriptor, each once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.net.namespaces import Nets
from gdb_kdump.kernel.net.sock import Sock, Socks
from gdb_kdump.kernel.net.sock_files import OpenSock, SockFiles
from gdb_kdump.kernel.net.sock_names import SockNames
from gdb_kdump.kernel.net.sock_tables import SockTables
from gdb_kdump.session import Session
from gdb_kdump.text import hex16, is_kernel_address
from gdb_kdump.walks import Gaps, walk

_SHOWN_OF_A_PART = 1000  # sockets, when the user does not want to wait for all of them


@dataclass(frozen=True)
class SockInfo:
    """A socket and what is known about it.

    `protocol` is sk_prot->name; `state` its name; `local` and `peer` are "" where there is none; `netns` is the number
    in /proc/PID/ns/net, None where it cannot be read; `opened` is the task that has it open, or None; `tables` are
    where it was found ("tcp", "unix", ..., "fd").
    """

    sock: Sock
    protocol: str
    state: str
    local: str
    peer: str
    netns: int | None
    opened: OpenSock | None
    tables: tuple[str, ...]


class AllSocks:
    """Finds the sockets of one session, once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._socks = session.once(Socks)
        self._names = session.once(SockNames)
        self._net = session.layout.offset("sock.net")
        self._found: list[SockInfo] | None = None
        self._gaps = Gaps()

    def all(self, gaps: Gaps) -> list[SockInfo]:
        """Every socket, in the order of the tables, then those that only a descriptor leads to."""
        if self._found is None:
            self._gaps = Gaps()
            self._found = self._find(self._gaps)
        gaps.note(*self._gaps)
        return self._found

    def _find(self, gaps: Gaps) -> list[SockInfo]:
        opened = self._opened(gaps)
        known = self._known_protocols(gaps)
        tables: dict[int, list[str]] = {}
        socks: list[SockInfo] = []
        with gaps.about("") as wrong:
            with walk("the tables of sockets") as reached:
                for table, sock in reached(self._reached(opened, gaps, wrong)):
                    tables.setdefault(sock, [])
                    if table not in tables[sock]:
                        tables[sock].append(table)
            with walk("the sockets") as described:
                for sock in list(tables)[:_SHOWN_OF_A_PART] if reached.ended else described(tables):
                    socks += self._described(sock, opened.get(sock), tuple(tables[sock]), known, wrong)
        gaps.note(reached.ended or described.ended)
        return socks

    def _reached(self, opened: dict[int, OpenSock], gaps: Gaps, wrong: Gaps) -> Iterator[tuple[str, int]]:
        """(table, `struct sock *`) of each place that has a socket; of what can be none, a sentence goes to `wrong`."""
        for table, sock in self._session.once(SockTables).all(gaps):
            if is_kernel_address(sock) and not sock & 7:
                yield table, sock
            else:
                wrong.note(f"the {table} table leads to {hex16(sock)}, which is no socket")
        yield from (("fd", sock) for sock in opened)

    def _opened(self, gaps: Gaps) -> dict[int, OpenSock]:
        """The first process that has each socket open."""
        opened: dict[int, OpenSock] = {}
        try:
            files = self._session.once(SockFiles)
        except MissingDebugInfo as error:
            gaps.note(f"sockets of file descriptors: {error}")
            return opened
        with walk("open sockets", gaps) as steps:
            for entry in steps(files.all(gaps)):
                opened.setdefault(entry.sock, entry)
        return opened

    def _known_protocols(self, gaps: Gaps) -> set[str]:
        try:
            return self._names.known_protocols()
        except (Unreadable, Corrupt, MissingDebugInfo) as error:
            gaps.note(f"the list of protocols, by which sockets are told from other things: {error}")
            return set()

    def _described(
        self, addr: int, opened: OpenSock | None, tables: tuple[str, ...], known: set[str], wrong: Gaps
    ) -> Iterator[SockInfo]:
        """The socket, or nothing where that is none."""
        try:
            info = self._describe(addr, opened, tables)
            if not known or info.protocol in known:
                yield info
                return
            why = f"its protocol is called {info.protocol!r}"
        except Unreadable as error:
            why = str(error)
        wrong.note(f"the {', '.join(tables)} table leads to {hex16(addr)}, which is no socket: {why}")

    def _describe(self, addr: int, opened: OpenSock | None, tables: tuple[str, ...]) -> SockInfo:
        sock = self._socks.read(addr)
        netns = self._session.once(Nets).inum(self._session.memory.ptr(addr + self._net))
        protocol, state = self._names.protocol(addr), self._names.state(sock)
        info = SockInfo(sock, protocol, state, "", "", netns, opened, tables)
        try:
            local, peer = self._names.ends(sock)
        except (Unreadable, MissingDebugInfo) as error:
            return replace(info, local=f"? ({error})")
        return replace(info, local=local, peer=peer)
