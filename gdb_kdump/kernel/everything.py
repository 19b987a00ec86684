"""Every sk_buff of the system: those on sockets, on the CPUs' backlogs, and all that the skb caches have allocated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.allsocks import AllSocks
from gdb_kdump.kernel.checks import Checked, Checks
from gdb_kdump.kernel.percpu import PerCpu
from gdb_kdump.kernel.places import Places
from gdb_kdump.kernel.skbobjects import SkbObjects
from gdb_kdump.kernel.skbqueues import SkbQueues
from gdb_kdump.kernel.skbuff import Skbs
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
    checks, skbs = session.once(Checks), session.once(Skbs)
    checked, reached, problems = _queues(session)
    findings: list[Finding] = []
    holes: list[Hole] = []
    seen: set[int] = set()
    try:
        # What stands on no queue is in somebody's hands, or was left half made: the kernel promises little of it.
        allocated = ((addr, False) for addr in session.once(SkbObjects).all())
        for addr, is_reached in chain(((addr, True) for addr in reached), allocated):
            if addr in seen:
                continue
            seen.add(addr)
            if not is_reached and not skbs.looks_alive(addr):
                continue
            found, hole = checks.skb(addr)
            findings += found if is_reached else [_doubted(finding) for finding in found]
            holes += [hole] if hole is not None and not found else []
            progress(len(seen))
    except (Unreadable, MissingDebugInfo, Corrupt) as error:
        problems.append(f"the skb caches: {error}")
    problems += session.once(SkbObjects).missing()
    problems += filter(None, [session.once(Places).why_unknown])
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
    for info in socks:
        try:
            checked, on_queues = checks.queues_of(info.sock.sock)
        except (Unreadable, MissingDebugInfo) as error:
            problems.append(f"sock {hex16(info.sock.sock)}: {error}")
            continue
        total = total + checked
        skbs += on_queues
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
            queues.append(session.once(SkbQueues).linked(name, data + layout.offset(f"softnet_data.{name}")).queue)
    return queues
