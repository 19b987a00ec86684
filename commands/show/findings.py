"""How findings are shown: the same table, JSON and convenience variable for every command that judges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gdb

from gdb_kdump import walks
from gdb_kdump.commands.show.status import Status, set_status
from gdb_kdump.commands.show.tables import table
from gdb_kdump.rules.findings import CORRUPT, UNKNOWN, Finding, verdict
from gdb_kdump.text import hex16

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


def findings_text(findings: Sequence[Finding]) -> Iterator[str]:
    """The lines of a table of findings; one line when there are none."""
    if not findings:
        yield "no findings"
        return
    rows = ((f.severity, f.rule, hex16(f.object), f.member, f.expected, f.found) for f in findings)
    yield from table(("SEVERITY", "RULE", "OBJECT", "MEMBER", "EXPECTED", "FOUND"), rows)
    yield from (f"  {finding.rule}: {finding.message}" for finding in walks.shown(findings))


def note_findings(findings: Sequence[Finding], comes_to: str | None = None) -> None:
    """Set $_kfindings to the number of corrupt findings, and $_kstatus to their verdict, for scripts."""
    gdb.set_convenience_variable("_kfindings", sum(finding.severity == CORRUPT for finding in findings))
    set_status(_STATUS.get(comes_to or verdict(findings), Status.FINE))
