"""ksock: all sockets of the system."""

from __future__ import annotations

import fnmatch
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gdb_kdump import walks
from gdb_kdump.commands.arguments import Arguments, Option
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.kps import display_name
from gdb_kdump.commands.show.tables import table
from gdb_kdump.errors import MissingDebugInfo, Unreadable, UsageError
from gdb_kdump.kernel.net.all_socks import AllSocks, SockInfo
from gdb_kdump.kernel.net.sock import AF_NETLINK, Socks
from gdb_kdump.records.queue import Queue, Role
from gdb_kdump.session import Session
from gdb_kdump.text import hex16
from gdb_kdump.walks import Gaps, walk

_AF_XDP = 44  # include/linux/socket.h; Python has no name for it

_RECEIVED, _TO_SEND = (Role.RECEIVE, Role.READER), (Role.WRITE, Role.RTX)
_OTHERS = (Role.ERROR, Role.BACKLOG, Role.OFO, Role.ACCEPT)


@dataclass(frozen=True)
class Row:
    """A socket and its queues; `why_not` says why those cannot be read, "" when they can."""

    info: SockInfo
    queues: tuple[Queue, ...]
    why_not: str = ""


class Ksock(Command["list[Row]"]):
    name = "ksock"
    operands = "[PATTERN]"
    summary = """List the sockets: of every protocol and network namespace, with or without a file descriptor.
PATTERN is a PID, a socket's address, or words with the shell's * ? [] that a cell of its row must match (TCP, LISTEN,
*:443, sshd).  Queues are shown as sk_buffs/bytes: RECVQ what waits to be read, SENDQ what waits to be sent or
acknowledged, OTHER what else there is.  An owner is the first process that has the socket open."""
    gap_words = "there may be more sockets"
    options = (Option("-n", "only sockets with something in a queue"),)

    def read(self, session: Session, arguments: Arguments, gaps: Gaps) -> list[Row]:
        if len(arguments.operands) > 1:
            raise UsageError("one PATTERN at the most; quote one with spaces")
        pattern = arguments.operands[0].strip("\"'") if arguments.operands else "*"
        infos = session.once(AllSocks).all(gaps)
        socks = session.once(Socks)
        chosen = (info for info in infos if _matches(info, pattern))
        rows: list[Row] = []
        with walk("the sockets", gaps, lambda info: info.sock.addr) as steps:
            for info in steps(chosen):
                rows.append(_row(socks, info))
        if arguments.has("-n"):
            rows = [row for row in rows if any(queue.nodes for queue in row.queues)]
        return rows

    def text(self, result: list[Row]) -> Iterator[str]:
        rows = (
            (
                hex16(row.info.sock.addr), family(row.info), kind(row.info), row.info.state, row.info.local,
                row.info.peer, _amount(row, _RECEIVED), _amount(row, _TO_SEND), _others(row),
                _owner(row.info),
            )
            for row in result
        )  # fmt: skip
        headers = ("SOCK", "FAMILY", "TYPE/PROTO", "STATE", "LOCAL", "PEER", "RECVQ", "SENDQ", "OTHER", "OWNER")
        yield from table(headers, rows, right=("RECVQ", "SENDQ"))

    def closing(self, result: list[Row]) -> Iterator[str]:
        unreadable = dict.fromkeys(row.why_not for row in result if row.why_not)
        yield from (f"queues shown as ? cannot be read: {why}" for why in unreadable)

    def json(self, result: list[Row]) -> Any:
        return {"socks": [_json(row) for row in walks.shown(result)]}


def _row(socks: Socks, info: SockInfo) -> Row:
    try:
        return Row(info, tuple(socks.queues(info.sock.addr, children=False)))
    except (Unreadable, MissingDebugInfo) as error:
        return Row(info, (), str(error))


def family(info: SockInfo) -> str:
    """The address family without AF_, its number where Python has no name for it."""
    if info.sock.family == _AF_XDP:
        return "XDP"
    try:
        return socket.AddressFamily(info.sock.family).name.removeprefix("AF_")
    except ValueError:
        return str(info.sock.family)


def type_name(info: SockInfo) -> str:
    """The socket type without SOCK_, its number where it has no name, "" where there is none."""
    if not info.sock.is_full:
        return ""
    try:
        return socket.SocketKind(info.sock.type).name.removeprefix("SOCK_")
    except ValueError:
        return str(info.sock.type)


def kind(info: SockInfo) -> str:
    """Type and protocol in a cell; the number where the protocol's name leaves it open."""
    numbered = info.sock.family == AF_NETLINK or info.protocol.startswith("RAW")
    protocol = f"{info.protocol}:{info.sock.protocol}" if numbered else info.protocol
    return f"{type_name(info)}/{protocol}" if info.sock.is_full else protocol


def _matches(info: SockInfo, pattern: str) -> bool:
    task = info.opened.task if info.opened else None
    if pattern.isdecimal() and task is not None and task.pid == int(pattern):
        return True
    if pattern.lower() in (hex16(info.sock.addr), f"{info.sock.addr:x}"):
        return True
    cells = [family(info), type_name(info), info.protocol, info.state, info.local, info.peer]
    if task is not None:
        cells.append(task.comm.decode("utf-8", "backslashreplace"))
    return any(fnmatch.fnmatchcase(cell, pattern) for cell in cells)


def _amount(row: Row, roles: tuple[Role, ...]) -> str:
    if row.why_not:
        return "?"
    queues = [queue for queue in row.queues if queue.role in roles]
    if not queues:
        return ""
    return f"{sum(len(queue.nodes) for queue in queues)}/{sum(queue.bytes for queue in queues)}"


def _others(row: Row) -> str:
    shown = [queue for queue in row.queues if queue.role in _OTHERS and queue.nodes]
    return " ".join(
        f"{queue.name} {len(queue.nodes)}" + ("" if queue.kind == "accept" else f"/{queue.bytes}") for queue in shown
    )


def _owner(info: SockInfo) -> str:
    return f"{info.opened.task.pid} {display_name(info.opened.task)}" if info.opened else ""


def _json(row: Row) -> dict[str, Any]:
    info, opened = row.info, row.info.opened
    sock = info.sock
    return {
        "sock": hex16(sock.addr),
        "family": family(info),
        "type": type_name(info),
        "protocol": info.protocol,
        "state": info.state,
        "numbers": {"family": sock.family, "type": sock.type, "protocol": sock.protocol, "state": sock.state},
        "local": info.local,
        "peer": info.peer,
        "queues": {
            queue.name: {"qlen": len(queue.nodes), "bytes": queue.bytes, "complete": queue.complete}
            for queue in row.queues
        },
        "pid": opened.task.pid if opened else None,
        "comm": opened.task.comm.decode("utf-8", "backslashreplace") if opened else None,
        "fd": opened.fd if opened else None,
        "netns": info.netns,
        "tables": list(info.tables),
        **({"unreadable": row.why_not} if row.why_not else {}),
    }
