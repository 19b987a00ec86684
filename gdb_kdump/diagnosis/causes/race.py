"""race: two CPUs were in one function, with one list, when one of them fell over an entry that is on no list any more.

Where no other CPU is seen at it, the entry is all that is known: linkage.  Looks like it and is not: a NULL pointer in
a function that has an sk_buff which is on no list, as most are; so the list itself must be found, or the function of
the kernel that takes entries off lists.
"""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.diagnosis.causes.answer import LIKELY, Case, Cause, Evidence
from gdb_kdump.diagnosis.causes.memory import fault_pointers, first_real, near_functions
from gdb_kdump.diagnosis.trip import find_culprit
from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.mm.allocations import Allocations
from gdb_kdump.kernel.sched.cpus import Running
from gdb_kdump.kernel.sched.registers import task_on
from gdb_kdump.kernel.stack.unwind import Frame, Stacks
from gdb_kdump.text import hex16, is_kernel_address

_TAKES_OFF = {"skb_dequeue", "skb_dequeue_tail", "skb_unlink", "__skb_unlink", "__skb_dequeue", "__skb_dequeue_tail"}


def race(case: Case) -> Cause | None:
    """An sk_buff at the fault has no links, and another CPU is in that function with the same list."""
    fault = first_real(case.trip.outward)
    if "NULL pointer dereference" not in case.trip.text or case.trip.is_asserted or fault is None:
        return None
    skb = next((addr for addr, _ in fault_pointers(case) if _is_unlinked(case, addr)), None)
    if skb is None:
        return None
    shown = Evidence("its next and prev are NULL", f"kstruct sk_buff.next,prev {hex16(skb)}")
    other = next(_others(case, fault), None)
    if other is None:
        if not _TAKES_OFF & near_functions(case):
            return None
        message = f"sk_buff {hex16(skb)} was being taken off a list, but it is on none: next and prev are NULL"
        culprit = find_culprit(case.trip.outward, "it, or what it called, took the sk_buff off the list")
        return Cause("linkage", message, LIKELY, (shown, Evidence("the trace", "kbt")), skb, "next", culprit)
    cpu, queue = other
    function = fault.source.function
    message = (
        f"sk_buff {hex16(skb)} was being taken off the list at {hex16(queue)}, but it is on none any more (its "
        f"links are NULL): CPU {cpu} was in {function}() with the same list"
    )
    evidence = (
        shown,
        Evidence(f"CPU {cpu} is in {function}(), too", f"kbt -a -c {cpu}"),
        Evidence("the list that both have in a register", f"x/3xg {hex16(queue)}"),
    )
    culprit = find_culprit(case.trip.outward, f"CPU {case.cpu} and CPU {cpu} were in it with one list")
    return Cause("race", message, LIKELY, evidence, skb, "next", culprit)


def _is_unlinked(case: Case, addr: int) -> bool:
    """Whether an sk_buff begins at an address, in one of their caches, and next and prev are NULL."""
    session = case.session
    allocation = session.once(Allocations).of(addr)
    if not allocation.is_skb or allocation.start != addr:
        return False
    try:
        return not session.pointer(addr, "sk_buff.next") and not session.pointer(addr, "sk_buff.prev")
    except (Unreadable, MissingDebugInfo):
        return False


def _others(case: Case, fault: Frame) -> Iterator[tuple[int, int]]:
    """Each other CPU that is in the function of the fault, and the list that both have."""
    session, mine = case.session, [addr for addr, _ in fault_pointers(case)]
    for cpu in session.once(Running).tasks():
        if cpu == case.cpu:
            continue
        try:
            frames = session.once(Stacks).trace(task_on(session, cpu)).frames
        except (Unreadable, MissingDebugInfo):
            continue
        at = next((number for number, frame in enumerate(frames) if _is_same(frame, fault)), None)
        if at is None:
            continue
        theirs = {value for frame in frames[: at + 1] for value in (*frame.registers.values(), *frame.saved.values())}
        queue = next((addr for addr in mine if addr in theirs and _is_queue(case, addr)), None)
        if queue is not None:
            yield cpu, queue


def _is_same(frame: Frame, fault: Frame) -> bool:
    one, other = frame.source, fault.source
    return one.function is not None and (one.function, one.module) == (other.function, other.module)


def _is_queue(case: Case, addr: int) -> bool:
    """Whether a struct sk_buff_head could be at an address: no sk_buff itself, and its links lead to such or to it."""
    session = case.session
    if session.once(Allocations).of(addr).is_skb:
        return False
    try:
        ends = [session.pointer(addr, f"sk_buff_head.{name}") for name in ("next", "prev")]
    except (Unreadable, MissingDebugInfo):
        return False
    return all(end == addr or (is_kernel_address(end) and session.once(Allocations).of(end).is_skb) for end in ends)
