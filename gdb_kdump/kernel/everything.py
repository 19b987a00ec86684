"""Every sk_buff of the system: those on queues, and all that the skb caches have allocated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.allsocks import AllSocks
from gdb_kdump.kernel.backlogs import FREED, GRO
from gdb_kdump.kernel.checks import Checked, Checks
from gdb_kdump.kernel.netqueues import net_queues
from gdb_kdump.kernel.places import Places
from gdb_kdump.kernel.skbobjects import SkbObjects
from gdb_kdump.kernel.skbuff import Skbs
from gdb_kdump.rules.findings import SUSPECT, Finding
from gdb_kdump.rules.records import Hole, Queue
from gdb_kdump.session import Session
from gdb_kdump.text import hex16


def check_everything(session: Session, progress: Callable[[int], None]) -> tuple[Checked, tuple[str, ...]]:
    """Judge every sk_buff once; returns what was found and why there may be more.

    `progress` is called with the number judged so far.
    """
    checks, skbs = session.once(Checks), session.once(Skbs)
    checked, reached, problems = _of_socks(session)
    places: dict[int, Queue] = {}
    for queue in net_queues(session, problems):
        checked = checked + checks.queues([queue])
        places.update(dict.fromkeys(queue.skbs, queue))
    findings: list[Finding] = []
    holes: list[Hole] = []
    seen: set[int] = set()
    try:
        # What stands on no queue is in somebody's hands, or was left half made: the kernel promises little of it.
        allocated = ((addr, False) for addr in session.once(SkbObjects).all())
        for addr, is_reached in chain(((addr, True) for addr in (*reached, *places)), allocated):
            if addr in seen:
                continue
            seen.add(addr)
            if not is_reached and not skbs.looks_alive(addr):
                continue
            found, hole = checks.skb(addr)
            found = _placed(found, places[addr]) if found and addr in places else found
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


def _placed(findings: Sequence[Finding], queue: Queue) -> list[Finding]:
    """The same with the queue that the sk_buff was found on, which no command walks, and without what is right there.

    Nobody uses what waits to be freed (net/core/dev.c: dev_kfree_skb_irq_reason); GRO has the size of segments, but
    their type only when it has put them together (net/core/gro.c: dev_gro_receive).
    """
    right: tuple[str, str | None] = ("", None)
    if queue.name.startswith(FREED):
        right = "skb.users", None
    elif queue.name.startswith(GRO):
        right = "shinfo.gso", SUSPECT
    judged = (f for f in findings if f.rule != right[0] or right[1] not in (None, f.severity))
    return [replace(finding, message=f"{finding.message} (on {queue.name})") for finding in judged]


def _of_socks(session: Session) -> tuple[Checked, list[int], list[str]]:
    """The linkage of every queue of every socket, the sk_buffs on them, and what could not be followed."""
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
    return total, skbs, problems
