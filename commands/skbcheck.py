"""skbcheck: judge sk_buffs, their shared info and the queues that hold them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gdb_kdump.commands.arguments import Arguments, Option, address
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.findings import finding_json, findings_text, note_findings
from gdb_kdump.errors import Unreadable, UsageError
from gdb_kdump.kernel.skbuff import Skbs
from gdb_kdump.kernel.sock import QUEUES, Socks
from gdb_kdump.rules import judge_queue, judge_skb
from gdb_kdump.rules.findings import Finding, verdict
from gdb_kdump.rules.records import Hole
from gdb_kdump.session import Session
from gdb_kdump.text import hex16


@dataclass(frozen=True)
class Checked:
    """How many sk_buffs and queues were judged, what is wrong with them, and what could not be read."""

    skbs: int
    queues: int
    findings: tuple[Finding, ...]
    unreadable: tuple[Hole, ...]


class Skbcheck(Command[Checked]):
    name = "skbcheck"
    operands = "[SKB]..."
    summary = """Judge sk_buffs: are they, their shared info, their buffers and queues sound?
SKB is a GDB expression (in parentheses when it has spaces), or hex digits without 0x.
`corrupt` is what the kernel itself never does, `suspect` what it rarely does; a page that is missing from the dump
is neither, and is listed apart.  $_kfindings is set to the number of corrupt findings."""
    options = (Option("--sock", "every queue of that socket, and every sk_buff on it", "SOCK"),)

    def read(self, session: Session, arguments: Arguments) -> Checked:
        sock = arguments.options.get("--sock")
        if not arguments.operands and sock is None:
            raise UsageError("name sk_buffs, or a socket: skbcheck SKB..., skbcheck --sock SOCK")
        skbs = [address(expression) for expression in arguments.operands]
        queues = []
        if sock is not None:
            socks, addr = session.once(Socks), address(sock)
            socks.read(addr)
            queues = [socks.queue(addr, name) for name in QUEUES]
            skbs += [node for queue in queues for node in queue.nodes + queue.from_tail]
        findings = [finding for queue in queues for finding in judge_queue(queue)]
        unreadable = [queue.hole for queue in queues if queue.hole is not None]
        for skb in dict.fromkeys(skbs):
            found, hole = _judge(session.once(Skbs), skb)
            findings += found
            unreadable += [hole] if hole is not None else []
        return Checked(len(dict.fromkeys(skbs)), len(queues), tuple(findings), tuple(unreadable))

    def note(self, result: Checked) -> None:
        note_findings(result.findings)

    def text(self, result: Checked) -> Iterator[str]:
        yield from findings_text(result.findings)
        for hole in result.unreadable:
            yield f"not judged: {hex16(hole.addr)}: {hole.why.sentence} ({hole.why.name})"
        yield f"checked {result.skbs} sk_buffs, {result.queues} queues: {verdict(result.findings)}"

    def json(self, result: Checked) -> Any:
        return {
            "checked": {"skbs": result.skbs, "queues": result.queues},
            "findings": [finding_json(finding) for finding in result.findings],
            "unreadable": [{"address": hex16(hole.addr), "why": hole.why.name} for hole in result.unreadable],
            "verdict": verdict(result.findings),
        }


def _judge(skbs: Skbs, addr: int) -> tuple[list[Finding], Hole | None]:
    try:
        skb = skbs.read(addr)
    except Unreadable as error:
        return [], Hole(error.addr, error.why)
    return judge_skb(skb), skb.hole
