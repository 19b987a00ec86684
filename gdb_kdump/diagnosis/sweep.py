"""Every sk_buff of the system: those on queues, in the frames of the CPUs, and all that the skb caches have allocated.

Whatever ktriage, or skbcheck of one sk_buff, calls corrupt has a finding here, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain

from gdb_kdump.diagnosis.checks import SOUND, Checked, Checks
from gdb_kdump.diagnosis.frame_objects import FrameObjects, FramesOfCpus, for_each_sock, unread_of_skb
from gdb_kdump.diagnosis.lost_queues import judge_lost_queues
from gdb_kdump.diagnosis.sockets import judge_queues, judge_sock_and_queues
from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.mm.allocations import Allocations
from gdb_kdump.kernel.mm.allocator import allocator
from gdb_kdump.kernel.net.all_socks import AllSocks, SockInfo
from gdb_kdump.kernel.net.holders import held_on
from gdb_kdump.kernel.net.net_queues import net_queues
from gdb_kdump.kernel.net.skb_caches import SkbObjects
from gdb_kdump.kernel.net.skbuff import Skbs
from gdb_kdump.kernel.net.sock import Sock
from gdb_kdump.kernel.panic import Panic
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
    sweep = _Sweep(session, checks, held, queues)
    checked += _of_frames(session, sweep, {info.sock.addr for info in _socks(session)}, gaps)
    try:
        allocated = ((addr, False) for addr in session.once(SkbObjects).all(gaps) if addr not in sweep.seen)
        with walk("the sk_buffs", where=lambda one: one[0]) as walked:
            for addr, is_reached in walked(chain(((addr, True) for addr in sweep.reached), allocated)):
                sweep.judge(addr, is_reached)
                progress(len(sweep.seen))
        if walked.ended:
            gaps.note(f"the skb caches: {walked.ended}")
        sweep.tell(checks.slabs_of({*session.once(Allocations).skb_caches(Gaps()), *sweep.caches}, gaps))
    except MissingDebugInfo as error:
        gaps.note(f"the skb caches: {error}")
    sweep.findings += [finding for group in skbs.sharing(sweep.reached) for finding in sharing(group)]
    sweep.findings += judge_lost_queues(session, sweep.unreached)
    gaps.note(*skbs.gaps, *session.once(Allocations).gaps)
    return checked + Checked(
        skbs=len(sweep.seen),
        findings=tuple(sweep.findings),
        holes=tuple(sweep.holes),
        lacks_the_case=sweep.lacks_the_case,
    )


def _socks(session: Session) -> list[SockInfo]:
    try:
        return session.once(AllSocks).all(Gaps())
    except MissingDebugInfo:
        return []


def _of_frames(session: Session, sweep: _Sweep, known: set[int], gaps: Gaps) -> Checked:
    """Have the sk_buffs in the frames of the CPUs judged; what is wrong with sockets there that no table has."""
    checked, frames = Checked(), session.once(FramesOfCpus)
    try:
        for objects in frames.of_others(gaps):
            sweep.take_from_other_cpu(objects)
        if not session.once(Panic).happened():
            return checked
        objects = frames.of_panic()
        sweep.take_from_panic(objects)
        for sock, _ in for_each_sock(session, [skb for skb, _ in objects.skbs], objects.pointers):
            if isinstance(sock, Sock) and sock.addr not in known:
                of_sock, queues = judge_sock_and_queues(session, sock.addr)
                checked += of_sock
                sweep.take_queues(queues)
    except (Unreadable, MissingDebugInfo) as error:
        gaps.note(f"the frames of the CPUs: {error}")
    return checked


class _Sweep:
    """What is found while sk_buffs are judged one after the other: those on queues first, then all others."""

    def __init__(self, session: Session, checks: Checks, on_socks: dict[int, Held], queues: list[Queue]) -> None:
        self._session, self._checks, self._skbs = session, checks, session.once(Skbs)
        self.findings: list[Finding] = []
        self.holes: list[Unreadable] = []
        self.unreached: list[int] = []  # alive, and on no queue that is known
        self.seen: set[int] = set()
        self.caches: set[int] = set()
        """The `struct kmem_cache *` that the panic task was at work with."""
        self.lacks_the_case = False
        self._of_slabs: set[Finding] = set()
        self._held = {**on_socks, **held_on(queues)}
        self._named: set[int] = set()  # those that the panic task's frames lead to
        self._stopped_at: set[int] = set()  # those that another CPU had in its hands
        self._half_way: set[int] = set()  # those that are not born yet, or were being freed
        self._queues: dict[int, Queue] = {}  # that no socket has, by the sk_buffs on them
        for queue in queues:
            twice = [skb for skb in queue.skbs if skb in self._queues]
            self.findings += [on_two_queues(skb, self._queues[skb].name, queue) for skb in twice]
            self._queues.update(dict.fromkeys(queue.skbs, queue))
        self.reached = [*on_socks, *self._queues]

    def take_from_panic(self, objects: FrameObjects) -> None:
        """Have what the panic task's frames lead to judged without doubt, as ktriage does."""
        self._half_way |= objects.unborn
        self._named = {skb.addr for skb, _ in objects.skbs}
        missing = [unread for unread in objects.unread if unread.matters]
        self.holes += [Unreadable(unread.addr, unread.why) for unread in missing]
        self.seen.update(unread.addr for unread in missing)
        parts = [unread for skb, _ in objects.skbs for unread in unread_of_skb(skb)]
        self.lacks_the_case = objects.missing is not None or bool(parts)
        self.reached += [skb.addr for skb, _ in objects.skbs if skb.addr not in self._held]
        try:
            known = {cache.addr for cache in allocator(self._session).caches(Gaps())}
        except MissingDebugInfo:
            return  # as will be said of the skb caches
        self.caches = {pointer.value for pointer in objects.pointers} & known

    def take_from_other_cpu(self, objects: FrameObjects) -> None:
        """Have what the frames of a CPU lead to judged, which was stopped wherever it was."""
        addresses = {skb.addr for skb, _ in objects.skbs}
        if objects.is_half_way:
            self._half_way |= addresses | objects.unborn
        else:
            self._stopped_at |= addresses
            self.reached += [addr for addr in addresses if addr not in self._held]

    def take_queues(self, queues: list[Queue]) -> None:
        """Have the sk_buffs on more queues of sockets judged."""
        held = held_on(queues)
        self.reached += [addr for addr in held if addr not in self._held]
        self._held = {**held, **self._held}

    def judge(self, addr: int, is_reached: bool) -> None:
        """One sk_buff, which is on a queue or in a CPU's hands (`is_reached`), or which its cache has allocated."""
        is_queued = addr in self._held
        if addr in self.seen:
            if is_reached and addr in self._queues:
                self.findings.append(on_two_queues(addr, "a socket's queue", self._queues[addr]))
            return
        is_named = is_queued or addr in self._named
        if not is_named and addr in self._half_way:
            return
        self.seen.add(addr)
        is_alive = is_named or self._skbs.looks_alive(addr)
        if not is_alive and addr not in self._stopped_at and self._session.once(Allocations).of(addr).is_shared:
            return
        if is_alive and not is_queued:
            self.unreached.append(addr)
        verdict = self._checks.skb(addr, self._held[addr] if is_queued else Held.NOWHERE)
        if verdict is SOUND:
            return
        members, shinfo = verdict.members, verdict.shinfo
        if addr in self._queues:
            members, shinfo = _placed(members, self._queues[addr]), _placed(shinfo, self._queues[addr])
        if not is_named:
            members = tuple(map(doubted, members))
            # With a buffer of its own it is an sk_buff, and its shared info is what the kernel takes it for.
            if not is_alive or addr in self._stopped_at or not self._has_buffer(addr):
                shinfo = tuple(map(doubted, shinfo))
        self.findings.extend(members + shinfo)
        self.tell(verdict.slabs)
        if verdict.hole is not None and not verdict.findings:
            self.holes.append(verdict.hole)

    def tell(self, of_slabs: tuple[Finding, ...]) -> None:
        """What is wrong with slabs, each once."""
        self.findings.extend(finding for finding in of_slabs if finding not in self._of_slabs)
        self._of_slabs.update(of_slabs)

    def _has_buffer(self, addr: int) -> bool:
        try:
            head = self._skbs.read(addr).members.head
        except Unreadable:
            return False
        place = self._session.once(Allocations).of(head)
        return place.kind == "page" or (place.kind == "slab" and place.start == head and place.state == "allocated")


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
