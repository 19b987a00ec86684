"""All sockets of the system, with and without a file descriptor, each once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gdb_kdump import walks
from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.net.namespaces import Nets
from gdb_kdump.kernel.net.sock import Sock, Socks
from gdb_kdump.kernel.net.sock_files import OpenSock, SockFiles
from gdb_kdump.kernel.net.sock_names import SockNames
from gdb_kdump.kernel.net.sock_tables import SockTables
from gdb_kdump.session import Session
from gdb_kdump.text import hex16, is_kernel_address, some

_SHOWN_OF_A_PART = 1000  # sockets, when the user does not want to wait for all of them


@dataclass(frozen=True)
class SockInfo:
    """A socket and what is known about it.

    `protocol` is sk_prot->name; `state` its name; `local` and `peer` are "" where there is none; `netns` is the number
    in /proc/PID/ns/net, None where it cannot be read; `opened` is who has it open, None where nobody has; `tables` are
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
        self._found: tuple[list[SockInfo], list[str]] | None = None

    def all(self) -> tuple[list[SockInfo], list[str]]:
        """Every socket, in the order of the tables, then those that only a descriptor leads to; and the problems.

        A problem is a sentence on what is broken or missing, so that there may be more.
        """
        if self._found is None:
            self._found = self._find()
        return self._found

    def _find(self) -> tuple[list[SockInfo], list[str]]:
        problems: list[str] = []
        opened = self._opened(problems)
        known = self._known_protocols(problems)
        tables: dict[int, list[str]] = {}

        def note(place: tuple[str, int]) -> None:
            table, sock = place
            places = tables.setdefault(sock, [])
            if table not in places:
                places.append(table)

        found: list[SockInfo] = []
        wrong: list[str] = []

        def describe(sock: int) -> None:
            try:
                info = self._describe(sock, opened.get(sock), tuple(tables[sock]))
                if not known or info.protocol in known:
                    found.append(info)
                    return
                why = f"its protocol is called {info.protocol!r}"
            except Unreadable as error:
                why = str(error)
            wrong.append(f"the {', '.join(tables[sock])} table leads to {hex16(sock)}, which is no socket: {why}")

        ended = walks.gather(self._reached(opened, problems, wrong), note, "the tables of sockets")
        if ended:
            for sock in list(tables)[:_SHOWN_OF_A_PART]:
                describe(sock)
        else:
            ended = walks.gather(tables, describe, "the sockets")
        return found, [*problems, *some(wrong), *([ended] if ended else [])]

    def _reached(self, opened: dict[int, OpenSock], problems: list[str], wrong: list[str]) -> Iterator[tuple[str, int]]:
        for table, sock in self._session.once(SockTables).all(problems):
            if is_kernel_address(sock) and not sock & 7:
                yield table, sock
            else:
                wrong.append(f"the {table} table leads to {hex16(sock)}, which is no socket")
        yield from (("fd", sock) for sock in opened)

    def _opened(self, problems: list[str]) -> dict[int, OpenSock]:
        """Who has each socket open: the first process that has."""
        found: dict[int, OpenSock] = {}
        try:
            opened = self._session.once(SockFiles).all(problems)
            ended = walks.gather(opened, lambda entry: found.setdefault(entry.sock, entry), "open sockets")
            problems += [ended] if ended else []
        except MissingDebugInfo as error:
            problems.append(f"sockets of file descriptors: {error}")
        return found

    def _known_protocols(self, problems: list[str]) -> set[str]:
        try:
            return self._names.known_protocols()
        except (Unreadable, Corrupt, MissingDebugInfo) as error:
            problems.append(f"the list of protocols, by which sockets are told from other things: {error}")
            return set()

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
