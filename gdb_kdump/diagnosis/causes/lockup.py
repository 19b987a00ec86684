"""lockup: a CPU that does not come back: soft and hard lockups, RCU stalls; kernel/watchdog.c, kernel/rcu/tree_stall.h.

The watchdog is innocent, and so is the CPU that noticed: it is asked what the CPU which is stuck was doing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from gdb_kdump.diagnosis.causes.answer import CERTAIN, LIKELY, Case, Cause, Evidence
from gdb_kdump.diagnosis.causes.memory import function_name
from gdb_kdump.diagnosis.trip import Culprit, find_culprit
from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.sched.cpus import Running
from gdb_kdump.kernel.sched.registers import task_on
from gdb_kdump.kernel.stack.unwind import Frame, Stacks
from gdb_kdump.text import hex16

_SOFT = re.compile(r"soft lockup - CPU#(\d+) stuck")
_HARD = re.compile(r"hard LOCKUP on cpu (\d+)")
_STALL = re.compile(r"rcu: INFO: \S+ (?:self-)?detected (?:expedited )?stalls?")
_STALLED = re.compile(r"rcu:\s+(\d+)-\S+: \(")
_SPINS = re.compile(
    r"(native_)?(queued_(spin|read|write)_lock|rt_spin_lock|pv_queued_spin_lock)|_raw_(spin|read|write)_lock"
)
_INTERRUPTS = ("exception", "irq", "nmi")


def lockup(case: Case) -> Cause | None:
    """What the stuck CPU was in when it was interrupted."""
    text = case.trip.text
    says = _SOFT.search(text) or _HARD.search(text)
    if says is None and not _STALL.search(text):
        return None
    stalled = says or _STALLED.search(text)
    cpu = int(stalled[1]) if stalled is not None else case.cpu
    what = "a stall of RCU" if says is None else "a soft lockup" if _SOFT.search(text) else "a hard lockup"
    frames = _interrupted(case.trip.outward if cpu == case.cpu else _frames_of(case, cpu), cpu == case.cpu)
    seen = Evidence(f"what CPU {cpu} was in", "kbt" if cpu == case.cpu else f"kbt -a -c {cpu}")
    noticed = Evidence(
        next((line for line in case.trip.says if _SOFT.search(line) or _HARD.search(line)), what), "klog"
    )
    real = [frame for frame in frames if not frame.source.inlined]
    if not real:
        return Cause(
            "lockup",
            f"CPU {cpu} did not come back, {what}; its trace does not tell from where",
            LIKELY,
            (noticed, seen),
        )
    culprit = _in_trace(case, cpu, frames, "it did not come back")
    spins = next((number for number, frame in enumerate(real[:3]) if _SPINS.match(frame.source.function or "")), None)
    if spins is not None:
        return _of_lock(case, cpu, what, real, (noticed, seen))
    inside = function_name(real[0].source)
    led = "" if culprit is None or culprit.function == real[0].source.function else f", called by {_name(culprit)}"
    message = f"CPU {cpu} did not come back from {inside}{led}: {what}"
    return Cause("lockup", message, CERTAIN, (noticed, seen), None, "", culprit)


def _of_lock(case: Case, cpu: int, what: str, frames: Sequence[Frame], evidence: tuple[Evidence, ...]) -> Cause:
    """It spins for a lock; where its own stack has a function of the same module below an interrupt, that is said."""
    waits = next(frame for frame in frames if not _SPINS.match(frame.source.function or ""))
    lock = (
        next((p for p in case.pointers if p.name == "lock" and _SPINS.match(p.function)), None)
        if cpu == case.cpu
        else None
    )
    culprit = _in_trace(case, cpu, frames, "it waits for a lock that it does not get")
    at = f" at {hex16(lock.value)}" if lock is not None else ""
    below = _interrupted(frames, True)
    told = ""
    if culprit is not None and below:
        holder = next(
            (f for f in below if f.source.module == culprit.module and f.source.function != culprit.function), None
        )
        if holder is not None:
            told = f"; what it interrupted on this CPU was in {function_name(holder.source)}"
            told_by = f"frame #{holder.level} is {function_name(holder.source)}, which was interrupted"
            evidence = (Evidence(told_by, "kbt"), *evidence)
    if lock is not None:
        evidence += (
            Evidence("the lock", f"x/1xw {hex16(lock.value)}"),
            Evidence("what it is", f"kwhat {hex16(lock.value)}"),
        )
    message = f"CPU {cpu} waits in {function_name(waits.source)} for a spinlock{at} that it does not get: {what}{told}"
    return Cause("lockup", message, CERTAIN, evidence, lock.value if lock is not None else None, "", culprit)


def _interrupted(frames: Sequence[Frame], after: bool) -> Sequence[Frame]:
    """The frames of what was interrupted: from after the first entry on; all where a CPU was stopped elsewhere."""
    at = next(
        (number for number, frame in enumerate(frames) if frame.kind in _INTERRUPTS and not frame.from_user), None
    )
    if at is None:
        return () if after else frames
    return frames[at + 1 :] if after else frames


def _in_trace(case: Case, cpu: int, frames: Sequence[Frame], why: str) -> Culprit | None:
    """The first module function among a CPU's frames; its number would mislead where the panic was elsewhere."""
    culprit = find_culprit(frames, why, f"The first module function in the trace of CPU {cpu}")
    return culprit if culprit is None or cpu == case.cpu else replace(culprit, level=None)


def _frames_of(case: Case, cpu: int) -> Sequence[Frame]:
    if cpu not in case.session.once(Running).tasks():
        return ()
    try:
        return case.session.once(Stacks).trace(task_on(case.session, cpu)).frames
    except (Unreadable, MissingDebugInfo):
        return ()


def _name(culprit: Culprit) -> str:
    return f"{culprit.function} [{culprit.module}]"
