"""What a rule has to say, and what all that is said amounts to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

CORRUPT = "corrupt"
SUSPECT = "suspect"
CLEAN = "clean"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """One broken invariant: `object` is the address of the record, `member` the C member that breaks it.

    `severity` is CORRUPT for what the kernel itself never does, else SUSPECT.
    """

    rule: str
    object: int
    member: str
    severity: str
    expected: str
    found: str
    message: str


def verdict(findings: Iterable[Finding], judged: bool = True) -> str:
    """The worst severity among findings, else CLEAN; UNKNOWN when nothing could be `judged`."""
    severities = {finding.severity for finding in findings}
    if not severities and not judged:
        return UNKNOWN
    return CORRUPT if CORRUPT in severities else SUSPECT if SUSPECT in severities else CLEAN
