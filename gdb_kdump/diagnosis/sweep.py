"""Every sk_buff of the system: those on queues, and all that the skb caches have allocated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain

from gdb_kdump.diagnosis.checks import SOUND, Checked, Checks
from gdb_kdump.diagnosis.sockets import judge_queues, judge_sock_and_queues
from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.mm.allocations import Allocations
from gdb_kdump.kernel.net.all_socks import AllSocks
from gdb_kdump.kernel.net.holders import held_on
from gdb_kdump.kernel.net.net_queues import net_queues
from gdb_kdump.kernel.net.skb_caches import SkbObjects
from gdb_kdump.kernel.net.skbuff import Skbs
from gdb_kdump.records.queue import Queue
from gdb_kdump.records.skb import Held
from gdb_kdump.rules.findings import CORRUPT, SUSPECT, Finding
from gdb_kdump.rules.skb import sharing
from gdb_kdump.session import Session
from gdb_kdump.text import hex16
from gdb_kdump.walks import Gaps, walk


def check_everything(session: Session, checks: Checks, progress: Callable[[int], None], gaps: Gaps) -> Checked:
    """Judge every sk_buff once.

    `progress` is called with the number judged so far.
    """
    skbs = session.once(Skbs)
    try:
        checked, held = _of_socks(session, gaps)
    except MissingDebugInfo as error:
        checked, held = Checked(), {}
        gaps.note(f"the sockets: {error}")
    reached = list(held)
    places: dict[int, Queue] = {}
    queues: list[Queue] = []
    with walk("the other queues", gaps) as steps:
        for queue in steps(net_queues(session, gaps)):
            queues.append(queue)
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
        progress(len(seen))
        if verdict is SOUND:
            return
        found = verdict.members + verdict.shinfo
        if addr in places:
            found = _placed(found, places[addr])
        findings.extend(found if is_reached else map(_doubted, found))
        findings.extend(finding for finding in verdict.slabs if finding not in of_slabs)
        of_slabs.update(verdict.slabs)
        if verdict.hole is not None and not verdict.findings:
            holes.append(verdict.hole)

    try:
        # What stands on no queue is in somebody's hands, or was left half made: the kernel promises little of it.
        allocated = ((addr, False) for addr in session.once(SkbObjects).all(gaps))
        everybody = chain(((addr, True) for addr in chain(reached, places)), allocated)
        with walk("the sk_buffs", where=lambda one: one[0]) as walked:
            for one in walked(everybody):
                judge(one)
        if walked.ended:
            gaps.note(f"the skb caches: {walked.ended}")
    except MissingDebugInfo as error:
        gaps.note(f"the skb caches: {error}")
    reached += places
    findings += [finding for group in skbs.sharing(reached) for finding in sharing(group)]
    gaps.note(*skbs.missing, *session.once(Allocations).gaps)
    return checked + Checked(len(seen), 0, tuple(findings), tuple(holes))


def _doubted(finding: Finding) -> Finding:
    return replace(finding, severity=SUSPECT, message=f"{finding.message} (it is on no queue)")


def _twice(skb: int, other: str, queue: Queue) -> Finding:
    """An sk_buff has one pointer to the next, so it cannot be on two queues; include/linux/skbuff.h: __skb_insert."""
    message = f"it is on {other} and on {queue.name}: whoever frees it first leaves the other a dangling pointer"
    return Finding("queue.link", skb, "next", CORRUPT, "one queue", "two queues", message)


def _placed(findings: Sequence[Finding], queue: Queue) -> tuple[Finding, ...]:
    """The same with the name of the queue that the sk_buff was found on, which no other command walks."""
    return tuple(replace(finding, message=f"{finding.message} (on {queue.name})") for finding in findings)


def _of_socks(session: Session, gaps: Gaps) -> tuple[Checked, dict[int, Held]]:
    """The linkage of every queue of every socket, and the sk_buffs on them."""
    held: dict[int, Held] = {}
    judged: list[Checked] = []
    with walk("the sockets", where=lambda info: info.sock.addr) as walked, gaps.about("") as wrong:
        for info in walked(session.once(AllSocks).all(gaps)):
            try:
                checked, queues = judge_sock_and_queues(session, info.sock.addr)
            except (Unreadable, MissingDebugInfo) as error:
                wrong.note(f"sock {hex16(info.sock.addr)}: {error}")
                continue
            judged.append(checked)
            held.update(held_on(queues))
    gaps.note(walked.ended)
    return sum(judged, Checked()), held
