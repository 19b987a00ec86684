"""How findings are shown: the same table, JSON and convenience variable for every command that judges."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import gdb

from gdb_kdump import walks
from gdb_kdump.commands.show.status import Status, set_status
from gdb_kdump.commands.show.styles import TITLE, Line, styled
from gdb_kdump.commands.show.tables import table
from gdb_kdump.commands.show.wrapping import wrapped
from gdb_kdump.rules.findings import CORRUPT, UNKNOWN, Finding, verdict
from gdb_kdump.text import hex16, some

_ELEMENT = re.compile(r"(.*)\[(\d+)\]")  # a member of an array
_MOST_MESSAGES = 3
_INDENT = "    "
_STATUS = {CORRUPT: Status.CORRUPT, UNKNOWN: Status.UNKNOWN}


def finding_json(finding: Finding) -> dict[str, Any]:
    """A finding as every JSON document of ours has it."""
    return {
        "rule": finding.rule,
        "object": hex16(finding.object),
        "member": finding.member,
        "severity": finding.severity,
        "expected": finding.expected,
        "found": finding.found,
        "message": finding.message,
    }


@dataclass
class _Group:
    """The findings of one rule on one object."""

    first: Finding
    members: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        self.members.append(finding.member)
        detail = f"expected {finding.expected}; found {finding.found}"
        self.messages.append(f"{finding.message} ({detail})" if finding.expected or finding.found else finding.message)


def findings_text(findings: Sequence[Finding], most: int | None = None) -> Iterator[Line]:
    """A row for the findings of each rule on each object, with what they say below it; one line when there are none.

    There are `most` rows, and a line that counts the others.
    """
    if not findings:
        yield "no findings"
        return
    groups: dict[tuple[str, int, str], _Group] = {}
    for finding in walks.shown(findings):
        groups.setdefault((finding.rule, finding.object, finding.severity), _Group(finding)).add(finding)
    listed = list(groups.values())[:most]
    rows = [(g.first.severity, g.first.rule, hex16(g.first.object), members_text(g.members)) for g in listed]
    header, *lines = table(("SEVERITY", "RULE", "OBJECT", "MEMBER"), rows)
    yield styled((header, TITLE))
    # No cell has a space: each row is one line, however narrow the terminal.
    for group, line in zip(listed, lines):
        yield line
        for message in some(group.messages, _MOST_MESSAGES):
            yield from (f"{_INDENT}{part}" for part in wrapped(message, len(_INDENT)))
    if len(listed) < len(groups):
        yield f"and {len(groups) - len(listed)} more"


def members_text(members: Iterable[str]) -> str:
    """Members as one word: frags[1], frags[2], frags[3] are frags[1..3]."""
    names: dict[str, list[int]] = {}
    for member in dict.fromkeys(members):
        found = _ELEMENT.fullmatch(member)
        names.setdefault(found[1] if found else member, []).extend([int(found[2])] if found else [])
    words = []
    for name, numbers in names.items():
        words += [f"{name}[{first}]" if first == last else f"{name}[{first}..{last}]" for first, last in _runs(numbers)]
        if not numbers:
            words.append(name)
    return ",".join(words)


def _runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """The first and the last of numbers that follow each other."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] + 1 == number:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def note_findings(findings: Sequence[Finding], comes_to: str | None = None) -> None:
    """Set $_kfindings to the number of corrupt findings, and $_kstatus to their verdict, for scripts."""
    gdb.set_convenience_variable("_kfindings", sum(finding.severity == CORRUPT for finding in findings))
    note_verdict(comes_to or verdict(findings))


def note_verdict(comes_to: str) -> None:
    """Set $_kstatus to what a verdict is as a status."""
    set_status(_STATUS.get(comes_to, Status.FINE))
