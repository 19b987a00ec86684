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
from gdb_kdump.rules.findings import Finding
from gdb_kdump.rules.queue import on_two_queues
from gdb_kdump.rules.skb import doubted, sharing
from gdb_kdump.session import Session
from gdb_kdump.text import hex16
from gdb_kdump.walks import Gaps, walk


def check_everything(session: Session, checks: Checks, progress: Callable[[int], None], gaps: Gaps) -> Checked:
    """Judge every sk_buff of the system once; `progress` is called with the number judged so far."""
    try:
        checked, held = _of_socks(session, gaps)
    except MissingDebugInfo as error:
        checked, held = Checked(), {}
        gaps.note(f"the sockets: {error}")
    queues: list[Queue] = []
    with walk("the other queues", gaps) as steps:
        for queue in steps(net_queues(session, gaps)):
            queues.append(queue)
    checked += judge_queues(session, queues)
    skbs = session.once(Skbs)
    sweep = _Sweep(checks, skbs, held, queues)
    try:
        allocated = ((addr, False) for addr in session.once(SkbObjects).all(gaps))
        with walk("the sk_buffs", where=lambda one: one[0]) as walked:
            for addr, is_reached in walked(chain(((addr, True) for addr in sweep.reached), allocated)):
                sweep.judge(addr, is_reached)
                progress(len(sweep.seen))
        if walked.ended:
            gaps.note(f"the skb caches: {walked.ended}")
    except MissingDebugInfo as error:
        gaps.note(f"the skb caches: {error}")
    sweep.findings += [finding for group in skbs.sharing(sweep.reached) for finding in sharing(group)]
    gaps.note(*skbs.gaps, *session.once(Allocations).gaps)
    return checked + Checked(skbs=len(sweep.seen), findings=tuple(sweep.findings), holes=tuple(sweep.holes))


class _Sweep:
    """What is found while sk_buffs are judged one after the other: those on queues first, then all others."""

    def __init__(self, checks: Checks, skbs: Skbs, on_socks: dict[int, Held], queues: list[Queue]) -> None:
        self._checks, self._skbs = checks, skbs
        self.findings: list[Finding] = []
        self.holes: list[Unreadable] = []
        self.seen: set[int] = set()
        self._of_slabs: set[Finding] = set()
        self._held = {**on_socks, **held_on(queues)}
        self._queues: dict[int, Queue] = {}  # that no socket has, by the sk_buffs on them
        for queue in queues:
            twice = [skb for skb in queue.skbs if skb in self._queues]
            self.findings += [on_two_queues(skb, self._queues[skb].name, queue) for skb in twice]
            self._queues.update(dict.fromkeys(queue.skbs, queue))
        self.reached = [*on_socks, *self._queues]

    def judge(self, addr: int, is_reached: bool) -> None:
        """One sk_buff, which stands on a queue (`is_reached`) or which its cache has allocated."""
        if addr in self.seen:
            if is_reached and addr in self._queues:
                self.findings.append(on_two_queues(addr, "a socket's queue", self._queues[addr]))
            return
        self.seen.add(addr)
        if not is_reached and not self._skbs.looks_alive(addr):
            return
        verdict = self._checks.skb(addr, self._held[addr] if is_reached else Held.NOWHERE)
        if verdict is SOUND:
            return
        findings = verdict.members + verdict.shinfo
        if addr in self._queues:
            findings = _placed(findings, self._queues[addr])
        self.findings.extend(findings if is_reached else map(doubted, findings))
        self.findings.extend(finding for finding in verdict.slabs if finding not in self._of_slabs)
        self._of_slabs.update(verdict.slabs)
        if verdict.hole is not None and not verdict.findings:
            self.holes.append(verdict.hole)


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
