"""Every sk_buff of the system: those on sockets, on the CPUs' backlogs, and all that the skb caches have allocated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.allsocks import AllSocks
from gdb_kdump.kernel.checks import Checked, Checks
from gdb_kdump.kernel.percpu import PerCpu
from gdb_kdump.kernel.places import Places
from gdb_kdump.kernel.skbqueues import SkbQueues
from gdb_kdump.kernel.skbuff import Skbs
from gdb_kdump.kernel.slab import Slabs
from gdb_kdump.rules.findings import SUSPECT, Finding
from gdb_kdump.rules.records import Hole, Queue
from gdb_kdump.session import Session
from gdb_kdump.text import hex16

# Queues of each CPU's struct softnet_data; include/linux/netdevice.h.
_BACKLOGS = ("input_pkt_queue", "process_queue")


def check_everything(session: Session, progress: Callable[[int], None]) -> tuple[Checked, tuple[str, ...]]:
    """Judge every sk_buff once; returns what was found and why there may be more.

    `progress` is called with the number judged so far.
    """
    checks = session.once(Checks)
    checked, reached, problems = _queues(session)
    findings: list[Finding] = []
    holes: list[Hole] = []
    seen: set[int] = set()
    try:
        # What stands on no queue is in somebody's hands, or was left half made: nothing the kernel promises of it.
        allocated = ((addr, False) for addr in _allocated(session))
        for addr, is_reached in chain(((addr, True) for addr in reached), allocated):
            if addr in seen:
                continue
            seen.add(addr)
            found, hole = checks.skb(addr)
            findings += found if is_reached else [_doubted(finding) for finding in found]
            holes += [hole] if hole is not None and not found else []
            progress(len(seen))
    except (Unreadable, MissingDebugInfo, Corrupt) as error:
        problems.append(f"the skb caches: {error}")
    return checked + Checked(len(seen), 0, tuple(findings), tuple(holes)), tuple(problems)


def _doubted(finding: Finding) -> Finding:
    return replace(finding, severity=SUSPECT, message=f"{finding.message} (it is on no queue)")


def _queues(session: Session) -> tuple[Checked, list[int], list[str]]:
    """The linkage of every queue of the system, the sk_buffs on them, and what could not be followed."""
    checks = session.once(Checks)
    total = Checked(0, 0, (), ())
    skbs: list[int] = []
    socks, found_problems = session.once(AllSocks).all()
    problems = list(found_problems)
    for sock in socks:
        try:
            checked, on_queues = checks.queues_of(sock.sock)
        except (Unreadable, MissingDebugInfo) as error:
            problems.append(f"sock {hex16(sock.sock)}: {error}")
            continue
        total, skbs = total + checked, skbs + on_queues
    try:
        backlogs = _backlogs(session)
    except (Unreadable, MissingDebugInfo) as error:
        problems.append(f"the CPUs' backlogs: {error}")
        return total, skbs, problems
    return total + checks.queues(backlogs), skbs + [skb for queue in backlogs for skb in queue.skbs], problems


def _backlogs(session: Session) -> list[Queue]:
    """What each CPU has received and not yet handled; net/core/dev.c: enqueue_to_backlog."""
    percpu, layout = session.once(PerCpu), session.layout
    queues = []
    for cpu in percpu.online_cpus():
        data = percpu.symbol("softnet_data", cpu)
        for name in _BACKLOGS:
            queues.append(session.once(SkbQueues).list(name, data + layout.offset(f"softnet_data.{name}")).queue)
    return queues


def _allocated(session: Session) -> Iterator[int]:
    """Every object that the skb caches have allocated, without those that wait on a CPU for their next use."""
    waiting = _waiting(session)
    size = session.once(Skbs).size
    for cache in session.once(Places).skb_caches:
        for found in session.once(Slabs).for_each_object(cache):
            yield from (addr for addr in _skbs_in(session, found.start, size) if addr not in waiting)


def _skbs_in(session: Session, start: int, size: int) -> Iterator[int]:
    """The sk_buffs in one object: of an fclone pair the second one is in use when the pair has two references."""
    yield start
    layout = session.layout
    if session.once(Places).of(start).size < 2 * size or layout.find_struct("sk_buff_fclones") is None:
        return
    if session.memory.s32(start + layout.offset("sk_buff_fclones.fclone_ref")) > 1:
        yield start + layout.offset("sk_buff_fclones.skb2")


def _waiting(session: Session) -> set[int]:
    """The sk_buffs that NAPI keeps for its next packets; net/core/skbuff.c: napi_skb_cache_get."""
    percpu, found = session.once(PerCpu), set()
    symbol = session.debuginfo.find_address("napi_alloc_cache")
    if symbol is None or session.layout.find_struct("napi_alloc_cache") is None:
        return found
    layout, memory = session.layout, session.memory
    count_at, cache_at = (layout.find_member(f"napi_alloc_cache.{name}") for name in ("skb_count", "skb_cache"))
    if count_at is None or cache_at is None:
        return found
    for cpu in percpu.online_cpus():
        data = percpu.pointer(symbol, cpu)
        count = min(memory.u32(data + count_at.offset), cache_at.size // 8)
        found.update(memory.ptr(data + cache_at.offset + 8 * number) for number in range(count))
    return found
