"""From the panic alone to the sk_buff, its socket and who damaged it: the session of an hour in one step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gdb_kdump import walks
from gdb_kdump.diagnosis.causes import find_cause
from gdb_kdump.diagnosis.causes.answer import Case, Cause
from gdb_kdump.diagnosis.checks import Checked, Checks
from gdb_kdump.diagnosis.frame_objects import FrameObjects, FramesOfCpus, Unread, for_each_sock, unread_of_skb
from gdb_kdump.diagnosis.passed_hooks import PassedHook, passed_hooks
from gdb_kdump.diagnosis.pointers import Pointer
from gdb_kdump.diagnosis.sockets import judge_sock_and_queues
from gdb_kdump.diagnosis.sweep import check_everything
from gdb_kdump.diagnosis.trip import Trip, trip_of
from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.net.skbuff import Skbs
from gdb_kdump.kernel.net.sock import Sock
from gdb_kdump.kernel.panic import Panic
from gdb_kdump.kernel.sched.registers import Registers
from gdb_kdump.kernel.stack.crash_path import backtrace
from gdb_kdump.kernel.stack.unwind import Frame, Trace
from gdb_kdump.records.queue import Queue
from gdb_kdump.records.skb import Skb
from gdb_kdump.rules.findings import CLEAN, CORRUPT, SUSPECT, UNKNOWN, Finding, verdict
from gdb_kdump.rules.overrun import Attribution, attribute
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps


@dataclass(frozen=True)
class Suspect:
    """An sk_buff that the panic task's frames point to: where from, and what is wrong with it."""

    skb: Skb
    pointer: Pointer
    findings: tuple[Finding, ...]

    @property
    def is_corrupt(self) -> bool:
        return any(finding.severity == CORRUPT for finding in self.findings)


@dataclass(frozen=True)
class Triage:
    """The case; what there is no such thing of is None or empty."""

    crashed: bool
    message: str | None  # what the kernel said of it
    trace: Trace
    fault: Frame | None = None
    suspects: tuple[Suspect, ...] = ()  # the sk_buffs found in the trace, the worst first
    attribution: Attribution | None = None  # of the first one's damage
    sock: Sock | None = None  # the first one's, or else the innermost
    sock_from: str = ""  # where it was found
    queues: tuple[Queue, ...] = ()  # of the socket
    findings: tuple[Finding, ...] = ()  # about the first one, the socket and its queues
    everything: Checked | None = None  # what became of all sk_buffs, when none in the frames explains the panic
    trip: Trip | None = None  # what the CPU or the kernel objected to
    cause: Cause | None = None  # what explains that, where a rule here knows it
    hooks: tuple[PassedHook, ...] = ()  # that the packet may have passed, those that it did first
    unread: tuple[Unread, ...] = ()  # what was asked for and is not in the dump
    missing: Unread | None = None  # of that the sk_buff that the panic is about

    @property
    def verdict(self) -> str:
        """What it amounts to: "clean" only where the panic is about something else, "unknown" where no rule knows."""
        worst = verdict(self.findings)
        if worst == CORRUPT or not self.crashed:
            return worst
        if self.missing is not None or (self.suspects and any(unread_of_skb(self.suspects[0].skb))):
            return UNKNOWN
        if worst != CLEAN:
            return worst
        if self.cause is None or self.cause.kind == UNKNOWN:
            return UNKNOWN
        return CLEAN if self.cause.kind == "unrelated" else SUSPECT


def triage(session: Session, gaps: Gaps) -> Triage:
    """Work the case of the panic task; raises Unreadable, MissingDebugInfo only when there is no panic task."""
    panic, checks = session.once(Panic), Checks(session)
    trace = backtrace(session, panic.task())
    if not panic.happened():
        # Without a panic there is no fault to follow: all sk_buffs of the system are judged.
        everything = _everything(session, checks, gaps)
        findings = everything.findings if everything is not None else ()
        return Triage(crashed=False, message=panic.message(), trace=trace, findings=findings, everything=everything)
    objects = session.once(FramesOfCpus).of_panic()
    suspects = _suspects(checks, objects)
    missing = objects.missing if not any(suspect.is_corrupt for suspect in suspects) else None
    first = suspects[0] if suspects and missing is None else None
    sock, sock_from, socks_missed = _sock(session, first, objects)
    gaps.note(*session.once(Skbs).gaps)
    queues, findings = _of_sock(session, checks, sock, gaps) if sock is not None else ((), ())
    findings = _merged(first.findings if first else (), findings)
    fault = fault_frame(trace)
    trip = trip_of(session, trace, fault)
    attribution = attribute(first.skb) if first is not None and first.is_corrupt else None
    unread = (*_unread(objects, first, queues), *socks_missed)
    case = Case(
        session=session,
        checks=checks,
        trip=trip,
        skb=first.skb if first is not None else None,
        findings=findings,
        attribution=attribution,
        sock=sock,
        queues=queues,
        pointers=objects.pointers,
        cpu=panic.cpu(),
        pc=session.once(Registers).of_cpu(panic.cpu()).get(session.arch.pc, 0),
        unread=unread,
        hooks=_hooks(session, trip, first, missing, gaps),
    )
    everything = None
    if not any(finding.severity == CORRUPT for finding in findings):
        everything = _everything(session, checks, gaps)
        findings = _merged(findings, everything.findings if everything is not None else ())
    cause = find_cause(case)
    return Triage(
        crashed=True,
        message=panic.message(),
        trace=trace,
        fault=fault,
        suspects=_led_by(suspects, cause),
        attribution=attribution,
        sock=sock,
        sock_from=sock_from,
        queues=queues,
        findings=findings,
        everything=everything,
        trip=trip,
        cause=cause,
        hooks=case.hooks,
        unread=unread,
        missing=missing,
    )


def _merged(first: tuple[Finding, ...], second: tuple[Finding, ...]) -> tuple[Finding, ...]:
    return tuple(dict.fromkeys((*first, *second)))


def _of_sock(session: Session, checks: Checks, sock: Sock, gaps: Gaps) -> tuple[tuple[Queue, ...], tuple[Finding, ...]]:
    """The queues of a socket, and what is wrong with it, with them and with the sk_buffs on them."""
    try:
        checked, queues = judge_sock_and_queues(session, sock.addr)
        checked += checks.all_skbs([skb for queue in queues for skb in queue.skbs])
    except Unreadable:
        return (), ()
    except MissingDebugInfo as error:
        gaps.note(f"the queues of the socket: {error}")
        return (), ()
    gaps.note(*checked.gaps)
    return tuple(queues), checked.findings


def _everything(session: Session, checks: Checks, gaps: Gaps) -> Checked | None:
    """What skbcheck --all finds; None where the types lack something."""
    of_all = Gaps()
    try:
        checked = check_everything(session, checks, lambda judged: None, of_all)
    except MissingDebugInfo as error:
        gaps.note(f"the sk_buffs of the system: {error}")
        return None
    if walks.is_interrupted():
        gaps.note(*of_all)
    return checked


def fault_frame(trace: Trace) -> Frame | None:
    """The real (not inlined) frame at the fault: after the exception, or the caller of panic()."""
    frames = trace.frames
    entries = [n for n, frame in enumerate(frames) if frame.kind == "exception" and frame.saved]
    kernel = [n for n in entries if not frames[n].from_user]
    start = kernel[0] + 1 if kernel else 0
    if not kernel:
        panics = [n for n, frame in enumerate(frames) if frame.source.function == "panic"]
        start = panics[-1] + 1 if panics else 0
    # A call that led to where no code is was made by the next one.
    return next((frame for frame in frames[start:] if not frame.source.inlined and frame.source.function), None)


def _hooks(
    session: Session, trip: Trip, first: Suspect | None, missing: Unread | None, gaps: Gaps
) -> tuple[PassedHook, ...]:
    """What the packet may have passed, where the panic is about one."""
    if first is None and missing is None:
        return ()
    with gaps.about("hooks") as unread:
        return tuple(passed_hooks(session, trip, first.skb.addr if first is not None else None, unread))


def _suspects(checks: Checks, objects: FrameObjects) -> tuple[Suspect, ...]:
    """The sk_buffs in the frames, the corrupt ones first, else in the order of the frames."""
    suspects = [Suspect(skb, pointer, checks.skb(skb.addr).findings) for skb, pointer in objects.skbs]
    return tuple(sorted(suspects, key=lambda suspect: not suspect.is_corrupt))


def _led_by(suspects: tuple[Suspect, ...], cause: Cause | None) -> tuple[Suspect, ...]:
    """The same with the sk_buff of the cause first, where it is one of them."""
    at = cause.object if cause is not None else None
    return tuple(sorted(suspects, key=lambda suspect: suspect.skb.addr != at)) if at is not None else suspects


def _sock(
    session: Session, first: Suspect | None, objects: FrameObjects
) -> tuple[Sock | None, str, tuple[Unread, ...]]:
    """The socket of the case and where it was found; before it, those that are not in the dump."""
    unread: list[Unread] = []
    for found, where in for_each_sock(session, [first.skb] if first is not None else [], objects.pointers):
        if isinstance(found, Sock):
            return found, where, tuple(unread)
        unread.append(found)
    return None, "", tuple(unread)


def _unread(objects: FrameObjects, first: Suspect | None, queues: tuple[Queue, ...]) -> Iterator[Unread]:
    """What the case asked of the dump in vain, but for sockets."""
    yield from objects.unread
    if first is not None:
        yield from unread_of_skb(first.skb)
    for queue in queues:
        if queue.hole is not None:
            yield Unread(queue.hole.addr, f"on the {queue.name} queue of the socket", queue.hole.why)
