"""What a cause is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

from gdb_kdump.diagnosis.checks import Checks
from gdb_kdump.diagnosis.frame_objects import Unread
from gdb_kdump.diagnosis.passed_hooks import PassedHook
from gdb_kdump.diagnosis.pointers import Pointer
from gdb_kdump.diagnosis.trip import Culprit, Trip
from gdb_kdump.kernel.net.sock import Sock
from gdb_kdump.records.queue import Queue
from gdb_kdump.records.skb import Skb
from gdb_kdump.rules.findings import Finding
from gdb_kdump.rules.overrun import Attribution
from gdb_kdump.session import Session

CERTAIN, LIKELY, POSSIBLE = "certain", "likely", "possible"


@dataclass(frozen=True)
class Case:
    """The panic as far as it is read: `skb` is the sk_buff that the frames lead to, with the `findings` about it."""

    session: Session
    checks: Checks
    trip: Trip
    skb: Skb | None
    findings: tuple[Finding, ...]
    attribution: Attribution | None
    sock: Sock | None
    queues: tuple[Queue, ...]
    pointers: tuple[Pointer, ...]
    """Those that the frames hold, typed ones first, innermost first."""
    cpu: int
    pc: int
    """Where the panic task was when it fell, which need not be code."""
    unread: tuple[Unread, ...] = ()
    """What the frames lead to and the dump does not have."""
    hooks: tuple[PassedHook, ...] = ()
    """Functions from outside of the network stack that the packet may have passed."""

    def found(self, rule: str) -> Finding | None:
        """The first finding of a rule about that sk_buff."""
        return next((finding for finding in self.findings if finding.rule == rule), None)


@dataclass(frozen=True)
class Evidence:
    """A fact, and the command that shows it."""

    text: str
    command: str


@dataclass(frozen=True)
class Cause:
    """What explains the trip: `object` is an address, `member` one of it, `message` a sentence without its end."""

    kind: str
    message: str
    certainty: str
    evidence: tuple[Evidence, ...]
    object: int | None = None
    member: str = ""
    culprit: Culprit | None = None
