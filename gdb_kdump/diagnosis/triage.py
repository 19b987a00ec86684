"""From the panic alone to the sk_buff, its socket and who damaged it: the session of an hour in one step."""

from __future__ import annotations

from dataclasses import dataclass

from gdb_kdump import walks
from gdb_kdump.diagnosis.causes import find_cause
from gdb_kdump.diagnosis.causes.answer import Case, Cause
from gdb_kdump.diagnosis.checks import Checked, Checks
from gdb_kdump.diagnosis.pointers import Pointer, registers_in, variables_in
from gdb_kdump.diagnosis.sockets import judge_sock_and_queues
from gdb_kdump.diagnosis.sweep import check_everything
from gdb_kdump.diagnosis.trip import Trip, trip_of
from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.mm.allocations import Allocations
from gdb_kdump.kernel.net.skbuff import Skbs
from gdb_kdump.kernel.net.sock import Sock, Socks
from gdb_kdump.kernel.panic import Panic
from gdb_kdump.kernel.sched.registers import Registers
from gdb_kdump.kernel.stack.crash_path import backtrace
from gdb_kdump.kernel.stack.unwind import Frame, Trace
from gdb_kdump.records.queue import Queue
from gdb_kdump.records.skb import Skb
from gdb_kdump.rules.findings import CORRUPT, Finding
from gdb_kdump.rules.overrun import Attribution, attribute
from gdb_kdump.session import Session
from gdb_kdump.text import is_kernel_address
from gdb_kdump.walks import Gaps

# Structs that begin with a struct sock; include/linux/tcp.h, udp.h, include/net/af_unix.h, inet_sock.h.
_SOCK_TYPES = frozenset(
    ("sock", "inet_sock", "tcp_sock", "udp_sock", "raw_sock", "unix_sock", "netlink_sock", "packet_sock",
     "inet_connection_sock", "tcp6_sock", "udp6_sock", "raw6_sock")
)  # fmt: skip
_MAX_BUFFER, _MAX_TRUESIZE = 1 << 22, 1 << 28  # more than kmalloc() and any sk_buff's fragments give, in bytes
_MAX_FAMILY = 64  # include/linux/socket.h: AF_MAX is 46 today


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


def triage(session: Session, gaps: Gaps) -> Triage:
    """Work the case of the panic task; raises Unreadable, MissingDebugInfo only when there is no panic task."""
    panic, checks = session.once(Panic), Checks(session)
    trace = backtrace(session, panic.task())
    if not panic.happened():
        # Without a panic there is no fault to follow: all sk_buffs of the system are judged.
        everything = _everything(session, checks, gaps)
        findings = everything.findings if everything is not None else ()
        return Triage(crashed=False, message=panic.message(), trace=trace, findings=findings, everything=everything)
    pointers = variables_in(panic.task()) + registers_in(trace.frames, session.arch)
    suspects = _suspects(session, checks, pointers)
    first = suspects[0] if suspects else None
    sock, sock_from = _sock(session, first, pointers)
    gaps.note(*session.once(Skbs).gaps)
    queues, findings = _of_sock(session, checks, sock, gaps) if sock is not None else ((), ())
    findings = _merged(first.findings if first else (), findings)
    fault = fault_frame(trace)
    trip = trip_of(session, trace, fault)
    attribution = attribute(first.skb) if first is not None and first.is_corrupt else None
    case = Case(
        session=session,
        checks=checks,
        trip=trip,
        skb=first.skb if first is not None else None,
        findings=_merged(first.findings if first else (), findings),
        attribution=attribution,
        sock=sock,
        queues=queues,
        pointers=tuple(pointers),
        cpu=panic.cpu(),
        pc=session.once(Registers).of_cpu(panic.cpu()).get(session.arch.pc, 0),
    )
    everything = None
    if not any(finding.severity == CORRUPT for finding in findings):
        everything = _everything(session, checks, gaps)
        findings = _merged(findings, everything.findings if everything is not None else ())
    return Triage(
        crashed=True,
        message=panic.message(),
        trace=trace,
        fault=fault,
        suspects=suspects,
        attribution=attribution,
        sock=sock,
        sock_from=sock_from,
        queues=queues,
        findings=findings,
        everything=everything,
        trip=trip,
        cause=find_cause(case),
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
    return next((frame for frame in frames[start:] if not frame.source.inlined), None)


def _suspects(session: Session, checks: Checks, pointers: list[Pointer]) -> tuple[Suspect, ...]:
    """The sk_buffs among the pointers, the corrupt ones first, else in the order of the frames."""
    allocations, skbs = session.once(Allocations), session.once(Skbs)
    suspects: dict[int, Suspect] = {}
    for pointer in pointers:
        if pointer.value in suspects or pointer.type not in ("", "sk_buff"):
            continue
        allocation = allocations.of(pointer.value)
        is_object = allocation.is_skb and pointer.value - allocation.start in (0, skbs.size)
        if not is_object and (pointer.type != "sk_buff" or allocation.kind == "slab"):
            continue
        try:
            skb = skbs.read_with_buffer(pointer.value)
        except Unreadable:
            continue
        if not pointer.type and not _reads_as_one(skb):
            continue
        suspects[pointer.value] = Suspect(skb, pointer, checks.skb(pointer.value).findings)
    return tuple(sorted(suspects.values(), key=lambda suspect: not suspect.is_corrupt))


def _reads_as_one(skb: Skb) -> bool:
    """Whether what a register leads to could be an sk_buff by what it holds: a merged cache has other objects, too."""
    size = skb.end - skb.members.head
    return is_kernel_address(skb.members.head) and 0 < size <= _MAX_BUFFER and 0 < skb.members.truesize < _MAX_TRUESIZE


def _sock(session: Session, suspect: Suspect | None, pointers: list[Pointer]) -> tuple[Sock | None, str]:
    """The socket of the case and where it was found: the sk_buff's own, else the innermost in the frames."""
    candidates = (
        [(suspect.skb.members.sk, "the sk_buff's sk")] if suspect is not None and suspect.skb.members.sk else []
    )
    candidates += [(p.value, f"{p.name} of {p.function}") for p in pointers if p.type in _SOCK_TYPES]
    for addr, where in candidates:
        if session.once(Allocations).of(addr).kind == "free":
            continue
        try:
            sock = session.once(Socks).read(addr)
        except Unreadable:
            continue
        if 0 < sock.family < _MAX_FAMILY:
            return sock, where
    return None, ""
