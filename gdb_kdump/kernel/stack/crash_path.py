"""The frames above the fault: what the dying CPU still did, from the exception to machine_kexec.

The registers in a dump are those of the fault, so nothing leads from them to these frames.  They are searched for
below the fault's stack pointer, and believed only when unwinding from them arrives exactly at the fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gdb_kdump.arch.state import State
from gdb_kdump.kernel.module.source import Source
from gdb_kdump.kernel.panic import Panic
from gdb_kdump.kernel.sched.cpu_stacks import CpuStacks
from gdb_kdump.kernel.sched.cpus import Running
from gdb_kdump.kernel.sched.registers import HYPERVISOR, Registers
from gdb_kdump.kernel.sched.tasks import Task
from gdb_kdump.kernel.stack.unwind import Frame, Stacks, Trace
from gdb_kdump.kernel.stack.without_registers import WithoutRegisters
from gdb_kdump.session import Session

_SCANNED = 32 << 10  # bytes below the fault: no kernel stack is larger
_TAKES_REGISTERS = ("__crash_kexec", "crash_kexec")  # one since 7bbee5ca3896 (v4.5)
_LAST = "machine_kexec"  # the last C function of a crashing kernel; include/linux/kexec.h


def backtrace(session: Session, task: Task) -> Trace:
    """The trace of a task; for the one that panicked, with the crash path above the fault."""
    trace = session.once(Stacks).trace(task)
    panic = session.once(Panic)
    if not trace.frames:
        lost = trace.ended != "user" and session.once(Running).cpu_of(task.addr) is not None
        return session.once(WithoutRegisters).find(trace) if lost else trace
    if not panic.happened() or task.addr != panic.task().addr:
        return trace
    if session.once(Registers).origin(panic.cpu()) == HYPERVISOR:
        return trace  # the registers are those of the end: what lies below them is of the past
    if any(frame.source.function == _LAST for frame in trace.frames):
        return trace  # the same
    fault = session.arch.state(trace.frames[0].registers, True)
    path = session.once(CrashPath).find(fault)
    if not path:
        return replace(trace, note="no path from the fault to the end of the crashing kernel could be verified")
    frames = [replace(frame, level=level) for level, frame in enumerate([*path, *trace.frames])]
    return replace(trace, frames=tuple(frames))


class CrashPath:
    """Finds the crash path of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._stacks = session.once(Stacks)
        self._source = session.once(Source)

    def find(self, fault: State) -> list[Frame]:
        """The frames from machine_kexec (or as near to it as can be verified) to the exception entry; empty if none.

        `fault` is the state that the registers in the dump describe; raises MissingDebugInfo.
        """
        goals = self._goals(fault)
        best: list[Frame] = []
        for state in self._candidates(fault.sp):
            frames = self._verified(state, goals)
            if not frames:
                continue
            if frames[0].source.function == _LAST or any(f.source.function == _LAST for f in frames[:3]):
                return frames
            if len(frames) > len(best):
                best = frames
        return best

    def _goals(self, fault: State) -> set[tuple[int, int]]:
        """The (pc, sp) to arrive at: the fault itself, or the caller of the function that took the registers.

        An oops hands on the pt_regs of its exception; panic() has none, and __crash_kexec notes its own registers.
        """
        goals = {(fault.pc, fault.sp)}
        if self._source.frames(fault.pc)[-1].function in _TAKES_REGISTERS:
            hop = next(self._stacks.walk(fault, ""))
            if hop.caller is not None:
                goals = {(hop.caller.pc, hop.caller.sp)}
        return goals

    def _verified(self, start: State, goals: set[tuple[int, int]]) -> list[Frame]:
        """The frames from `start` up to the goal, without the one that the goal's own trace begins with; or none."""
        hops = []
        for hop in self._stacks.walk(start, ""):
            if hop.caller is None:
                return []
            hops.append(hop)
            if (hop.caller.pc, hop.caller.sp) in goals:
                shown = hops if hop.caller.interrupted else hops[:-1]
                return self._stacks.frames(shown)
            if len(hops) > 64:
                return []
        return []

    def _candidates(self, sp: int) -> Iterator[State]:
        """The states that every word that could be a return address would mean, deepest stack first."""
        for low, high in self._ranges(sp):
            yield from self._stacks.callers_between(low, high, sp)

    def _ranges(self, sp: int) -> Iterator[tuple[int, int]]:
        yield self._lowest(sp), sp & ~7
        page_size = self._session.arch.page_size
        for low, high in self._session.once(CpuStacks).exception_stacks(self._session.once(Panic).cpu()):
            for page in range(low, high, page_size):  # guard pages lie between the stacks
                yield page, page + page_size

    def _lowest(self, sp: int) -> int:
        """The lowest address of the stack that `sp` is on, as far as the dump has it."""
        low = sp & ~7
        while sp - low < _SCANNED:
            below = (low - 1) & -self._session.arch.page_size
            if self._memory.why(below) is not None:
                break
            low = below
        return low
