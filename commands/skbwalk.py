"""skbwalk: the queues of a socket, walked with distrust."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gdb_kdump.commands.arguments import Arguments, Option, address
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.findings import finding_json, findings_text, note_findings
from gdb_kdump.commands.tables import table
from gdb_kdump.errors import Unreadable, UsageError
from gdb_kdump.kernel.skbuff import Skbs
from gdb_kdump.kernel.sock import QUEUES, Sock, Socks
from gdb_kdump.rules import judge_queue
from gdb_kdump.rules.findings import Finding
from gdb_kdump.rules.records import Hole, Queue, Skb
from gdb_kdump.session import Session
from gdb_kdump.text import hex16


@dataclass(frozen=True)
class Walked:
    """A queue, its sk_buffs in order (a Hole for one that cannot be read), and what is wrong with its linkage."""

    queue: Queue
    skbs: tuple[Skb | Hole, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Walk:
    """A socket and its queues."""

    sock: Sock
    queues: tuple[Walked, ...]


class Skbwalk(Command[Walk]):
    name = "skbwalk"
    operands = "SOCK"
    summary = """Walk the queues of the socket at SOCK: every sk_buff, and whether the linkage holds.
SOCK is a struct sock *: a GDB expression, or hex digits without 0x.  A walk that is cut short is shown as far as it
goes, with the reason and the last good address, and from the queue's other end."""
    options = (Option("--queue", f"only that queue: {', '.join(QUEUES)}", "Q"),)

    def read(self, session: Session, arguments: Arguments) -> Walk:
        if not arguments.operands:
            raise UsageError("name a socket: skbwalk SOCK")
        wanted = arguments.options.get("--queue")
        if wanted is not None and wanted not in QUEUES:
            raise UsageError(f"no queue {wanted}; there are: {', '.join(QUEUES)}")
        return walk_sock(session, address(" ".join(arguments.operands)), wanted)

    def note(self, result: Walk) -> None:
        note_findings([finding for walked in result.queues for finding in walked.findings])

    def text(self, result: Walk) -> Iterator[str]:
        sock = result.sock
        kind = f"family {sock.family}, type {sock.type}, protocol {sock.protocol}, state {sock.state}"
        yield f"sock {hex16(sock.sock)}: {kind}"
        for walked in result.queues:
            yield ""
            yield from _queue_text(walked)

    def json(self, result: Walk) -> Any:
        sock = result.sock
        return {
            "sock": hex16(sock.sock),
            "family": sock.family,
            "type": sock.type,
            "protocol": sock.protocol,
            "state": sock.state,
            "queues": [_queue_json(walked) for walked in result.queues],
        }


def walk_sock(session: Session, sock: int, wanted: str | None = None) -> Walk:
    """Walk one or all queues of a `struct sock *`; raises Unreadable for the socket itself."""
    socks, skbs = session.once(Socks), session.once(Skbs)
    read = socks.read(sock)
    queues = [socks.queue(sock, name) for name in QUEUES if wanted in (None, name)]
    return Walk(read, tuple(Walked(q, _read_all(skbs, q), tuple(judge_queue(q))) for q in queues))


def _read_all(skbs: Skbs, queue: Queue) -> tuple[Skb | Hole, ...]:
    found: list[Skb | Hole] = []
    for addr in queue.nodes + queue.from_tail:
        try:
            found.append(skbs.read(addr))
        except Unreadable as error:
            found.append(Hole(addr, error.why))
    return tuple(found)


def _queue_text(walked: Walked) -> Iterator[str]:
    queue = walked.queue
    yield f"{queue.name} queue @ {hex16(queue.head)}: qlen {queue.qlen}, walked {len(queue.nodes)}" + (
        "" if queue.complete else f", {_cut_short(queue)}"
    )
    if walked.skbs:
        rows = [(number, *_cells(skb, queue)) for number, skb in enumerate(walked.skbs)]
        headers = ("#", "SKB", "LEN", "DATA_LEN", "NR_FRAGS", "TRUESIZE", "")
        yield from table(headers, rows, right=("#", "LEN", "DATA_LEN", "NR_FRAGS", "TRUESIZE"))
    if walked.findings:
        yield from findings_text(walked.findings)


def _cut_short(queue: Queue) -> str:
    last = f"last good: {hex16(queue.nodes[-1] if queue.nodes else queue.head)}"
    if queue.cycle is not None:
        return f"cut short: comes back to {hex16(queue.cycle)} ({last})"
    assert queue.hole is not None
    return f"cut short: cannot read {hex16(queue.hole.addr)}: {queue.hole.why.sentence} ({last})"


def _cells(skb: Skb | Hole, queue: Queue) -> tuple[Any, ...]:
    if isinstance(skb, Hole):
        return hex16(skb.addr), "", "", "", "", f"unreadable: {skb.why.name}"
    nr_frags = skb.shinfo.nr_frags if skb.shinfo is not None else "?"
    note = "from the tail" if skb.addr in queue.from_tail else ""
    return hex16(skb.addr), skb.len, skb.data_len, nr_frags, skb.truesize, note


def _queue_json(walked: Walked) -> dict[str, Any]:
    queue = walked.queue
    return {
        "queue": queue.name,
        "head": hex16(queue.head),
        "qlen": queue.qlen,
        "walked": len(queue.nodes),
        "complete": queue.complete,
        "stopped": None if queue.complete else _cut_short(queue),
        "skbs": [_skb_json(skb) for skb in walked.skbs],
        "findings": [finding_json(finding) for finding in walked.findings],
    }


def _skb_json(skb: Skb | Hole) -> dict[str, Any]:
    if isinstance(skb, Hole):
        return {"skb": hex16(skb.addr), "unreadable": skb.why.name}
    shinfo = skb.shinfo
    assert shinfo is not None or skb.hole is not None
    nr_frags = shinfo.nr_frags if shinfo is not None else {"unreadable": skb.hole.why.name if skb.hole else ""}
    return {
        "skb": hex16(skb.addr),
        "len": skb.len,
        "data_len": skb.data_len,
        "nr_frags": nr_frags,
        "truesize": skb.truesize,
    }
