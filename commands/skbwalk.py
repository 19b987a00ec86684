"""skbwalk: the queues of a socket, walked with distrust."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from gdb_kdump import walks
from gdb_kdump.commands.arguments import Arguments, Option, address
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.export.pcap import Written, write_pcap
from gdb_kdump.commands.show.findings import finding_json, findings_text, note_findings
from gdb_kdump.commands.show.styles import Line
from gdb_kdump.diagnosis.sockets import JudgedQueue, WalkedSock, walk_sock
from gdb_kdump.errors import Unreadable, UsageError, Why
from gdb_kdump.kernel.net.sock import QUEUES
from gdb_kdump.records.queue import Queue, Role
from gdb_kdump.session import Session
from gdb_kdump.text import hex16
from gdb_kdump.walks import Gaps

_NAMES = [role.value for role in QUEUES]


@dataclass(frozen=True)
class Walk:
    """A socket and its queues; `pcap` is what was written of them, or None."""

    sock: WalkedSock
    pcap: Written | None = None


class Skbwalk(Command[Walk]):
    name = "skbwalk"
    operands = "SOCK"
    summary = """Walk the queues of the socket at SOCK: every sk_buff, and whether the linkage holds.
SOCK is a struct sock *: a GDB expression, or hex digits without 0x.  A walk that is cut short is shown as far as it
goes, with the reason and the last good address, and from the queue's other end.
qlen is the kernel's own number: sk_buffs, of the backlog bytes of truesize, of the accept queue sockets; for the
trees rtx and ofo the kernel has none, and the number that was walked is shown."""
    options = (
        Option("--queue", f"only that queue: {', '.join(_NAMES)}", "Q"),
        Option("--pcap", "write the packets to a new pcapng file, for Wireshark", "FILE"),
    )

    def read(self, session: Session, arguments: Arguments, gaps: Gaps) -> Walk:
        if not arguments.operands:
            raise UsageError("name a socket: skbwalk SOCK")
        wanted = arguments.options.get("--queue")
        if wanted is not None and wanted not in _NAMES:
            raise UsageError(f"no queue {wanted}; there are: {', '.join(_NAMES)}")
        role = Role(wanted) if wanted is not None else None
        walked = walk_sock(session, address(" ".join(arguments.operands)), role)
        file = arguments.options.get("--pcap")
        gaps.note(*walked.gaps)
        if file is None:
            return Walk(walked)
        if walks.is_interrupted():
            gaps.note("no capture was written, as the walk was stopped")
            return Walk(walked)
        return Walk(walked, write_pcap(session, file, walked.all_queues))

    def note(self, result: Walk) -> None:
        note_findings(result.sock.findings)

    def text(self, result: Walk) -> Iterator[Line]:
        yield from _walk_text(result.sock)

    def closing(self, result: Walk) -> Iterator[str]:
        if result.pcap is not None:
            yield ""
            yield from result.pcap.text()

    def json(self, result: Walk) -> Any:
        document = _walk_json(result.sock)
        return document if result.pcap is None else {**document, "pcap": result.pcap.json()}


def _walk_text(walk: WalkedSock) -> Iterator[Line]:
    sock = walk.sock
    kind = f"family {sock.family}, type {sock.type}, protocol {sock.protocol}, state {sock.state}"
    yield f"sock {hex16(sock.addr)}: {kind}"
    if not sock.is_full:
        yield "not a full socket (TIME_WAIT or a connection request): it has no queues"
    for walked in walk.queues:
        yield ""
        yield from _queue_text(walked)
        for child in walks.shown(walked.children):
            yield ""
            yield from (f"    {line}".rstrip() for line in _child_text(child))


def _child_text(child: WalkedSock | Unreadable) -> Iterator[Line]:
    if isinstance(child, Unreadable):
        yield f"unreadable: {hex16(child.addr)}"
        return
    yield from _walk_text(child)
    yield from (f"there may be more: {problem}" for problem in child.gaps)


def _queue_text(walked: JudgedQueue) -> Iterator[Line]:
    queue = walked.queue
    if not queue.head:
        yield f"{queue.name} queue: {queue.stopped}"
        return
    unit = " bytes" if queue.kind == "backlog" else ""
    yield f"{queue.name} queue @ {hex16(queue.head)}: qlen {queue.qlen}{unit}, walked {len(queue.nodes)}" + (
        "" if queue.complete else f", {_cut_short(queue)}"
    )
    yield from _skbs_text(walked)
    if walked.findings:
        yield from findings_text(walked.findings)


_HEADERS = ("#", "SKB", "LEN", "DATA_LEN", "NR_FRAGS", "TRUESIZE")


def _skbs_text(walked: JudgedQueue) -> Iterator[str]:
    """The table of sk_buffs, put together by hand: a queue can hold hundreds of thousands."""
    if not walked.figures:
        return
    from_tail, figures, nr_frags = set(walked.queue.from_tail), walked.figures, walked.nr_frags
    widest = [
        str(len(figures)),
        hex16(0),
        *map(_widest, (figures.len, figures.data_len, nr_frags.values(), figures.truesize)),
    ]
    line = "  ".join(f"{{:>{max(len(header), len(cell))}}}" for header, cell in zip(_HEADERS, widest))
    yield line.format(*_HEADERS)
    for number, (skb, length, data_len, truesize, shinfo) in enumerate(walks.shown(figures)):
        text = line.format(number, hex16(skb), length, data_len, _cell(nr_frags.get(shinfo)), truesize)
        yield text + ("  from the tail" if skb in from_tail else "")


def _widest(values: Iterable[Any]) -> str:
    return max(map(_cell, set(values)), key=len, default="?")  # few different ones


def _cell(value: int | Why | None) -> str:
    return "?" if value is None else f"? ({value.name})" if isinstance(value, Why) else str(value)


def _cut_short(queue: Queue) -> str:
    if queue.stopped and not queue.head:
        return queue.stopped
    if queue.stopped:
        return f"{queue.stopped} (last good: {hex16(queue.nodes[-1] if queue.nodes else queue.head)})"
    if queue.kind == "rbtree":
        dead = queue.dead_ends[0]
        why = "comes back to" if dead.why is None else "cannot follow"
        return f"incomplete: {dead.member} of {hex16(dead.node or queue.head)} {why} {hex16(dead.found)}"
    last = f"last good: {hex16(queue.nodes[-1] if queue.nodes else queue.head)}"
    if queue.cycle is not None:
        return f"cut short: comes back to {hex16(queue.cycle)} ({last})"
    if queue.astray is not None:
        return f"cut short: next leads astray to {hex16(queue.astray)} ({last})"
    assert queue.hole is not None
    return f"cut short: cannot read {hex16(queue.hole.addr)}: {queue.hole.why.sentence} ({last})"


def _walk_json(walk: WalkedSock) -> dict[str, Any]:
    sock = walk.sock
    return {
        "sock": hex16(sock.addr),
        "family": sock.family,
        "type": sock.type,
        "protocol": sock.protocol,
        "state": sock.state,
        "queues": [_queue_json(walked) for walked in walk.queues],
    }


def _queue_json(walked: JudgedQueue) -> dict[str, Any]:
    queue = walked.queue
    nr_frags = walked.nr_frags
    holes = {at: {"unreadable": why.name} for at, why in nr_frags.items() if isinstance(why, Why)}
    document = {
        "queue": queue.name,
        "kind": queue.kind,
        "head": hex16(queue.head),
        "qlen": queue.qlen,
        "walked": len(queue.nodes),
        "complete": queue.complete,
        "stopped": None if queue.complete else _cut_short(queue),
        "skbs": [
            {
                "skb": f"0x{skb:016x}",
                "len": length,
                "data_len": data_len,
                "nr_frags": holes.get(shinfo) or nr_frags.get(shinfo),
                "truesize": truesize,
            }
            for skb, length, data_len, truesize, shinfo in walks.shown(walked.figures)
        ],
        "findings": [finding_json(finding) for finding in walked.findings],
    }
    if queue.kind == "accept":
        document["children"] = [
            {**_walk_json(child), "problems": list(child.gaps)}
            if isinstance(child, WalkedSock)
            else {"unreadable": child.why.name}
            for child in walks.shown(walked.children)
        ]
    return document
