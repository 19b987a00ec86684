"""Every sk_buff of the system: those on queues, and all that the skb caches have allocated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain

from gdb_kdump import walks
from gdb_kdump.diagnosis.checks import Checked, Checks
from gdb_kdump.diagnosis.sockets import judge_queues, judge_sock_and_queues
from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.mm.allocations import Allocations
from gdb_kdump.kernel.net.all_socks import AllSocks, SockInfo
from gdb_kdump.kernel.net.holders import held_on
from gdb_kdump.kernel.net.net_queues import net_queues
from gdb_kdump.kernel.net.skb_caches import SkbObjects
from gdb_kdump.kernel.net.skbuff import Skbs
from gdb_kdump.records.queue import Queue
from gdb_kdump.records.skb import Held
from gdb_kdump.rules.findings import CORRUPT, SUSPECT, Finding
from gdb_kdump.rules.skb import sharing
from gdb_kdump.session import Session
from gdb_kdump.text import hex16, some


def check_everything(
    session: Session, checks: Checks, progress: Callable[[int], None]
) -> tuple[Checked, tuple[str, ...]]:
    """Judge every sk_buff once; returns what was found and why there may be more.

    `progress` is called with the number judged so far.
    """
    skbs = session.once(Skbs)
    try:
        checked, held, problems = _of_socks(session)
    except MissingDebugInfo as error:
        checked, held, problems = Checked(), {}, [f"the sockets: {error}"]
    reached = list(held)
    places: dict[int, Queue] = {}
    queues: list[Queue] = []
    if ended := walks.gather(net_queues(session, problems), queues.append, "the other queues"):
        problems.append(ended)
    checked = checked + judge_queues(session, queues)
    held.update(held_on(queues))
    findings: list[Finding] = []
    of_slabs: set[Finding] = set()
    for queue in queues:
        findings += [_twice(skb, places[skb].name, queue) for skb in queue.skbs if skb in places]
        places.update(dict.fromkeys(queue.skbs, queue))
    holes: list[Unreadable] = []
    seen: set[int] = set()

    def judge(one: tuple[int, bool]) -> None:
        addr, is_reached = one
        if addr in seen:
            if is_reached and addr in places:
                findings.append(_twice(addr, "a socket's queue", places[addr]))
            return
        seen.add(addr)
        if not is_reached and not skbs.looks_alive(addr):
            return
        verdict = checks.skb(addr, held[addr] if is_reached else Held.NOWHERE)
        found = verdict.members + verdict.shinfo
        if addr in places:
            found = _placed(found, places[addr])
        findings.extend(found if is_reached else map(_doubted, found))
        findings.extend(finding for finding in verdict.slabs if finding not in of_slabs)
        of_slabs.update(verdict.slabs)
        if verdict.hole is not None and not verdict.findings:
            holes.append(verdict.hole)
        progress(len(seen))

    try:
        # What stands on no queue is in somebody's hands, or was left half made: the kernel promises little of it.
        allocated = ((addr, False) for addr in session.once(SkbObjects).all())
        everybody = chain(((addr, True) for addr in chain(reached, places)), allocated)
        if ended := walks.gather(everybody, judge, "the sk_buffs", lambda one: one[0]):
            problems.append(f"the skb caches: {ended}")
    except MissingDebugInfo as error:
        problems.append(f"the skb caches: {error}")
    reached += places
    findings += [finding for group in skbs.sharing(reached) for finding in sharing(group)]
    problems += session.once(SkbObjects).missing()
    problems += [*skbs.missing, *filter(None, [session.once(Allocations).why_unknown])]
    return checked + Checked(len(seen), 0, tuple(findings), tuple(holes)), tuple(problems)


def _doubted(finding: Finding) -> Finding:
    return replace(finding, severity=SUSPECT, message=f"{finding.message} (it is on no queue)")


def _twice(skb: int, other: str, queue: Queue) -> Finding:
    """An sk_buff has one pointer to the next, so it cannot be on two queues; include/linux/skbuff.h: __skb_insert."""
    message = f"it is on {other} and on {queue.name}: whoever frees it first leaves the other a dangling pointer"
    return Finding("queue.link", skb, "next", CORRUPT, "one queue", "two queues", message)


def _placed(findings: Sequence[Finding], queue: Queue) -> tuple[Finding, ...]:
    """The same with the name of the queue that the sk_buff was found on, which no other command walks."""
    return tuple(replace(finding, message=f"{finding.message} (on {queue.name})") for finding in findings)


def _of_socks(session: Session) -> tuple[Checked, dict[int, Held], list[str]]:
    """The linkage of every queue of every socket, the sk_buffs on them, and what could not be followed."""
    held: dict[int, Held] = {}
    socks, found_problems = session.once(AllSocks).all()
    problems = list(found_problems)
    judged: list[Checked] = []
    wrong: list[str] = []

    def judge(info: SockInfo) -> None:
        try:
            checked, queues = judge_sock_and_queues(session, info.sock.addr)
        except (Unreadable, MissingDebugInfo) as error:
            wrong.append(f"sock {hex16(info.sock.addr)}: {error}")
            return
        judged.append(checked)
        held.update(held_on(queues))

    ended = walks.gather(socks, judge, "the sockets", lambda info: info.sock.addr)
    problems += [*some(wrong), *([ended] if ended else [])]
    return sum(judged, Checked()), held, problems
