"""skbcheck: judge sk_buffs, their shared info, their buffers and the queues that hold them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gdb

from gdb_kdump import walks
from gdb_kdump.commands.arguments import Arguments, Option, address
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.show import terminal
from gdb_kdump.commands.show.findings import finding_json, findings_text, note_findings
from gdb_kdump.commands.show.hexdump import buffer_text
from gdb_kdump.commands.show.styles import Line
from gdb_kdump.commands.show.tables import table
from gdb_kdump.diagnosis.checks import Checked, Checks
from gdb_kdump.diagnosis.sockets import judge_sock_and_queues
from gdb_kdump.diagnosis.sweep import check_everything
from gdb_kdump.errors import UsageError, Why
from gdb_kdump.kernel.mm.allocations import Allocations
from gdb_kdump.kernel.net.skbuff import Skbs
from gdb_kdump.records.skb import Skb
from gdb_kdump.rules.overrun import attribute
from gdb_kdump.session import Session
from gdb_kdump.text import hex16
from gdb_kdump.walks import Gaps

_MAX_DRAWN = 4  # buffers, of all that are bad


@dataclass(frozen=True)
class Judged:
    """What was judged, and the bad sk_buffs to draw."""

    checked: Checked
    drawn: tuple[Skb, ...]
    is_all: bool


class Skbcheck(Command[Judged]):
    name = "skbcheck"
    operands = "[SKB]..."
    summary = """Judge sk_buffs: are they, their shared info, their buffers and queues sound?
SKB is a GDB expression (in parentheses when it has spaces), or hex digits without 0x.
`corrupt` is what the kernel itself never does, `suspect` what it rarely does; a page that is missing from the dump
is neither, and is listed apart.  $_kfindings is set to the number of corrupt findings."""
    gap_words = "not judged"
    options = (
        Option("--sock", "every queue of that socket, and every sk_buff on it", "SOCK"),
        Option("--all", "every socket, qdisc, backlog and allocated sk_buff of the system"),
    )

    def read(self, session: Session, arguments: Arguments, gaps: Gaps) -> Judged:
        sock = arguments.options.get("--sock")
        if arguments.has("--all"):
            progress = _Progress()
            checked = check_everything(session, Checks(session), progress.show, gaps)
            progress.end()
            gaps.note(*checked.gaps)
            return Judged(checked, (), True)
        if not arguments.operands and sock is None:
            raise UsageError("name sk_buffs, a socket, or all: skbcheck SKB..., skbcheck --sock SOCK, skbcheck --all")
        checks = Checks(session)
        checked = checks.all_skbs([address(expression) for expression in arguments.operands])
        if sock is not None:
            of_sock, queues = judge_sock_and_queues(session, address(sock))
            checked += of_sock + checks.all_skbs([skb for queue in queues for skb in queue.skbs])
        gaps.note(*checked.gaps, *session.once(Skbs).gaps, *session.once(Allocations).gaps)
        return Judged(checked, () if walks.is_interrupted() else _drawn(session, checked), False)

    def note(self, result: Judged) -> None:
        note_findings(result.checked.findings, result.checked.verdict)

    def text(self, result: Judged) -> Iterator[Line]:
        checked = result.checked
        yield from findings_text(checked.findings)
        for skb in result.drawn:
            yield ""
            yield f"sk_buff {hex16(skb.addr)}:"
            yield from buffer_text(skb, attribute(skb))
        if result.is_all and checked.findings:
            yield ""
            yield from _by_rule(checked)
        holes = _holes(checked)
        for addr, why in holes[:20]:
            yield f"not judged: {hex16(addr)}: {why.sentence} ({why.name})"
        if len(holes) > 20:
            yield f"not judged: {len(holes) - 20} more, see --json"

    def closing(self, result: Judged) -> Iterator[str]:
        checked = result.checked
        yield f"checked {checked.skbs} sk_buffs, {checked.queues} queues: {checked.verdict}"

    def json(self, result: Judged) -> Any:
        checked = result.checked
        return {
            "checked": {"skbs": checked.skbs, "queues": checked.queues},
            "findings": [finding_json(finding) for finding in walks.shown(checked.findings)],
            "unreadable": [{"address": hex16(addr), "why": why.name} for addr, why in walks.shown(_holes(checked))],
            "verdict": checked.verdict,
        }


def _holes(checked: Checked) -> list[tuple[int, Why]]:
    """The addresses that could not be judged, and why, each once: several may lead there."""
    return list(dict.fromkeys((hole.addr, hole.why) for hole in checked.holes))


def _drawn(session: Session, checked: Checked) -> tuple[Skb, ...]:
    """The sk_buffs whose shared info is bad, with their buffers."""
    return tuple(map(session.once(Skbs).read_with_buffer, checked.bad_shinfos[:_MAX_DRAWN]))


def _by_rule(checked: Checked) -> Iterator[str]:
    counts = Counter((finding.rule, finding.severity) for finding in checked.findings)
    objects = Counter(rule for rule, _ in {(finding.rule, finding.object) for finding in checked.findings})
    rows = [(rule, severity, count, objects[rule]) for (rule, severity), count in sorted(counts.items())]
    return table(("RULE", "SEVERITY", "FINDINGS", "OBJECTS"), rows, right=("FINDINGS", "OBJECTS"))


class _Progress:
    """How many sk_buffs have been judged, on a terminal, twice a second."""

    def __init__(self) -> None:
        self._shown_at = time.monotonic()
        self._shown = False
        self._is_terminal = terminal.is_terminal()

    def show(self, count: int) -> None:
        if not self._is_terminal or time.monotonic() - self._shown_at < 0.5:
            return
        gdb.write(f"\rjudged {count} sk_buffs ...", gdb.STDERR)
        gdb.flush(gdb.STDERR)
        self._shown_at, self._shown = time.monotonic(), True

    def end(self) -> None:
        if self._shown:
            gdb.write("\r" + " " * 40 + "\r", gdb.STDERR)
