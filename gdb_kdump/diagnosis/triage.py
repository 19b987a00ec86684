"""From the panic alone to the sk_buff, its socket and who damaged it: the session of an hour in one step."""

from __future__ import annotations

from dataclasses import dataclass

from gdb_kdump import walks
from gdb_kdump.diagnosis.checks import Checked, Checks
from gdb_kdump.diagnosis.pointers import Pointer, registers_in, variables_in
from gdb_kdump.diagnosis.sockets import judge_sock_and_queues
from gdb_kdump.diagnosis.sweep import check_everything
from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.mm.allocations import Allocations
from gdb_kdump.kernel.net.skbuff import Skbs
from gdb_kdump.kernel.net.sock import Sock, Socks
from gdb_kdump.kernel.panic import Panic
from gdb_kdump.kernel.stack.crash_path import backtrace
from gdb_kdump.kernel.stack.unwind import Frame, Trace
from gdb_kdump.records.queue import Queue
from gdb_kdump.records.skb import Skb
from gdb_kdump.rules.findings import CORRUPT, Finding
from gdb_kdump.rules.overrun import Attribution, attribute
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps

# Structs that begin with a struct sock; include/linux/tcp.h, udp.h, include/net/af_unix.h, inet_sock.h.
_SOCK_TYPES = frozenset(
    ("sock", "inet_sock", "tcp_sock", "udp_sock", "raw_sock", "unix_sock", "netlink_sock", "packet_sock",
     "inet_connection_sock", "tcp6_sock", "udp6_sock", "raw6_sock")
)  # fmt: skip
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
    """The case: whether anything `crashed`, what the kernel said of it, the trace and the frame of the fault, the
    sk_buffs found in it with the worst first, the first one's damage, its socket and that one's queues with what is
    wrong with them; None where there is no such thing.

    `everything` is what became of all sk_buffs of the system, when none in the frames explains the panic; `problems`
    say what could not be looked at, as the types lack something, or the user stopped it.
    """

    crashed: bool
    message: str | None
    trace: Trace
    fault: Frame | None
    suspects: tuple[Suspect, ...]
    attribution: Attribution | None
    sock: Sock | None
    sock_from: str
    queues: tuple[Queue, ...]
    findings: tuple[Finding, ...]
    holes: tuple[Unreadable, ...]
    everything: Checked | None
    problems: tuple[str, ...] = ()


def triage(session: Session) -> Triage:
    """Work the case of the panic task; raises Unreadable, MissingDebugInfo only when there is no panic task."""
    panic = session.once(Panic)
    trace = backtrace(session, panic.task())
    if not panic.happened():
        return _of_a_running_kernel(session, panic.message(), trace)
    fault = fault_frame(trace)
    pointers = variables_in(panic.task()) + registers_in(trace.frames, session.arch)
    checks = Checks(session)
    suspects = _suspects(session, checks, pointers)
    first = suspects[0] if suspects else None
    attribution = attribute(first.skb) if first is not None and first.is_corrupt else None
    sock, sock_from = _sock(session, first, pointers)
    queues: tuple[Queue, ...] = ()
    findings = first.findings if first else ()
    holes: tuple[Unreadable, ...] = ()
    problems = list(session.once(Skbs).missing)
    if sock is not None:
        try:
            checked, walked = judge_sock_and_queues(session, sock.addr)
            queues = tuple(walked)
            checked += checks.all_skbs([skb for queue in queues for skb in queue.skbs])
            holes, problems = checked.holes, [*problems, *checked.gaps]
            findings = tuple(dict.fromkeys((*findings, *checked.findings)))
        except Unreadable as error:
            holes = (error.as_value(),)
        except MissingDebugInfo as error:
            problems.append(f"the queues of the socket: {error}")
    everything = None
    if not any(finding.severity == CORRUPT for finding in findings):
        everything = _everything(session, checks, problems)
        findings = tuple(dict.fromkeys((*findings, *(everything.findings if everything is not None else ()))))
    return Triage(
        True, panic.message(), trace, fault, suspects, attribution, sock, sock_from, queues, findings, holes,
        everything, tuple(problems),
    )  # fmt: skip


def _of_a_running_kernel(session: Session, message: str | None, trace: Trace) -> Triage:
    """Without a panic there is no fault to follow: all sk_buffs of the system are judged."""
    problems: list[str] = []
    everything = _everything(session, Checks(session), problems)
    findings = everything.findings if everything is not None else ()
    return Triage(
        False, message, trace, None, (), None, None, "", (), findings, (), everything, tuple(problems)
    )  # fmt: skip


def _everything(session: Session, checks: Checks, problems: list[str]) -> Checked | None:
    """What skbcheck --all finds; None where the types lack something, which goes to `problems`."""
    try:
        gaps = Gaps()
        checked = check_everything(session, checks, lambda judged: None, gaps)
    except MissingDebugInfo as error:
        problems.append(f"the sk_buffs of the system: {error}")
        return None
    problems += gaps if walks.is_interrupted() else ()
    return checked


def fault_frame(trace: Trace) -> Frame | None:
    """The real (not inlined) frame at the fault: behind the exception, or the caller of panic()."""
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
    places, skbs = session.once(Allocations), session.once(Skbs)
    found: dict[int, Suspect] = {}
    for pointer in pointers:
        if pointer.value in found or pointer.type not in ("", "sk_buff"):
            continue
        place = places.of(pointer.value)
        is_object = place.is_skb and pointer.value - place.start in (0, skbs.size)
        if not is_object and (pointer.type != "sk_buff" or place.kind == "slab"):
            continue
        try:
            skb = skbs.read_with_buffer(pointer.value)
        except Unreadable:
            continue
        found[pointer.value] = Suspect(skb, pointer, checks.skb(pointer.value).findings)
    return tuple(sorted(found.values(), key=lambda suspect: not suspect.is_corrupt))


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
