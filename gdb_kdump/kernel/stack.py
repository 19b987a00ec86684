"""Stacks: from registers to the frames of a task, across interrupts, exceptions and stack switches.

arch/x86/kernel/unwind_orc.c: unwind_next_frame, with the reads of a dead machine instead of a live one's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gdb_kdump.errors import Unreadable
from gdb_kdump.kernel import orc as o
from gdb_kdump.kernel.orc import FrameType, Orc, OrcEntry
from gdb_kdump.kernel.registers import Registers
from gdb_kdump.kernel.source import Source, SourceFrame
from gdb_kdump.kernel.tasks import Task
from gdb_kdump.session import Session

MAX_FRAMES = 1000
_U64 = (1 << 64) - 1
_USER_MODE = 3  # the privilege level in cs; arch/x86/include/asm/ptrace.h: user_mode

_FULL_REGISTERS = {o.REG_DX: "rdx", o.REG_DI: "rdi", o.REG_R10: "r10", o.REG_R13: "r13"}


@dataclass(frozen=True)
class Frame:
    """One function of a trace: `pc` and `sp` (addresses), and the registers where an interruption saved them.

    `kind` is normal, exception, irq, nmi or syscall; `inlined` frames share the pc and sp of the one that follows.
    """

    level: int
    pc: int
    sp: int
    source: SourceFrame
    kind: str
    registers: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Trace:
    """The frames of a task and why they end: "user", "kthread", "idle", or a sentence."""

    task: Task
    frames: tuple[Frame, ...]
    ended: str


@dataclass
class _State:
    """Where the unwinder is: the registers it knows, and whether pc was interrupted rather than called from."""

    registers: dict[str, int]
    interrupted: bool

    @property
    def pc(self) -> int:
        return self.registers["rip"]

    @property
    def sp(self) -> int:
        return self.registers["rsp"]


class _Stop(Exception):
    """The trace ends here, and why."""


class Stacks:
    """Unwinds the stacks of one session's tasks."""

    def __init__(self, session: Session) -> None:
        self._memory = session.memory
        self._orc = session.once(Orc)
        self._source = session.once(Source)
        self._registers = session.once(Registers)

    def trace(self, task: Task) -> Trace:
        """The frames of a task from its saved registers on; what stops a trace is told in `ended`."""
        try:
            registers = self._registers.of(task)
        except Unreadable as error:
            return Trace(task, (), f"its saved registers: {error}")
        if not registers:
            return Trace(task, (), f"CPU {task.cpu} left no registers for this running task")
        frames: list[Frame] = []
        state = _State(dict(registers), task.running)
        try:
            while len(frames) < MAX_FRAMES:
                state = self._step(task, state, frames)
        except _Stop as stop:
            return Trace(task, tuple(frames), str(stop))
        except Unreadable as error:
            return Trace(task, tuple(frames), str(error))
        return Trace(task, tuple(frames), f"stopped after {MAX_FRAMES} frames")

    def _step(self, task: Task, state: _State, frames: list[Frame]) -> _State:
        """Append the frames at the state's pc and return the caller's state; raises _Stop where there is none."""
        entry = self._orc.find(state.pc if state.interrupted else state.pc - 1)
        found = self._source.frames(state.pc, not state.interrupted)
        if entry is None or found[-1].function is None:
            raise _Stop(f"pc {state.pc:#018x} at sp {state.sp:#018x} is not in kernel text")
        caller, stop = self._caller(task, state, entry)
        interruption = caller.registers if caller is not None and caller.interrupted else {}
        for source in found:
            is_entry = bool(interruption) and not source.inlined
            kind = _entry_kind(source.function) if is_entry else "normal"
            registers = interruption if is_entry else {}
            frames.append(Frame(len(frames), state.pc, state.sp, source, kind, registers))
        if caller is None:
            raise _Stop(stop)
        if caller.interrupted and caller.registers.get("cs", 0) & _USER_MODE:
            raise _Stop("user")
        if caller.sp <= state.sp and not caller.interrupted and entry.sp_reg in (o.REG_SP, o.REG_BP):
            raise _Stop(f"the stack does not grow from sp {state.sp:#018x}: caller's sp {caller.sp:#018x}")
        return caller

    def _caller(self, task: Task, state: _State, entry: OrcEntry) -> tuple[_State | None, str]:
        if entry.type is FrameType.END_OF_STACK:
            return None, _end_of_stack(task)
        if entry.type is FrameType.UNDEFINED or entry.sp_reg == o.REG_UNDEFINED:
            return None, f"the kernel has no unwind information for pc {state.pc:#018x}"
        try:
            return self._unwind(state, entry), ""
        except Unreadable as error:
            return None, str(error)
        except _Stop as stop:
            return None, str(stop)

    def _unwind(self, state: _State, entry: OrcEntry) -> _State:
        cfa = self._previous_sp(state, entry)
        if entry.type is FrameType.REGS:
            return _State(self._registers.pt_regs(cfa), True)
        if entry.type is FrameType.REGS_PARTIAL:
            return _State(self._registers.iret_frame(cfa), True)
        registers = {"rip": self._memory.u64(cfa - 8), "rsp": cfa}
        base = state.registers.get("rbp")
        if entry.bp_reg == o.REG_PREV_SP:
            registers["rbp"] = self._memory.u64((cfa + entry.bp_offset) & _U64)
        elif entry.bp_reg == o.REG_BP and base is not None:
            registers["rbp"] = self._memory.u64((base + entry.bp_offset) & _U64)
        elif base is not None:
            registers["rbp"] = base
        return _State(registers, False)

    def _previous_sp(self, state: _State, entry: OrcEntry) -> int:
        """The sp of the caller: DWARF's canonical frame address."""
        register = entry.sp_reg
        if register == o.REG_SP:
            return (state.sp + entry.sp_offset) & _U64
        if register == o.REG_SP_INDIRECT:
            return (self._memory.u64(state.sp) + entry.sp_offset) & _U64
        if register in (o.REG_BP, o.REG_BP_INDIRECT):
            at = (self._known(state, "rbp") + entry.sp_offset) & _U64
            return self._memory.u64(at) if register == o.REG_BP_INDIRECT else at
        if register not in _FULL_REGISTERS:
            raise _Stop(f"the unwind information of pc {state.pc:#018x} names register {register}")
        return (self._known(state, _FULL_REGISTERS[register]) + entry.sp_offset) & _U64

    def _known(self, state: _State, name: str) -> int:
        value = state.registers.get(name)
        if value is None:
            raise _Stop(f"{name} is not known at pc {state.pc:#018x}")
        return value


def _entry_kind(function: str | None) -> str:
    """The kind of an entry frame by the name of its code; arch/x86/include/asm/idtentry.h: DECLARE_IDTENTRY*."""
    name = function or ""
    if "nmi" in name:
        return "nmi"
    if "SYSCALL" in name or "SYSENTER" in name or "INT80" in name or "int80" in name or name == "system_call":
        return "syscall"
    if "interrupt" in name or "sysvec" in name or "irq" in name:
        return "irq"
    return "exception"


def _end_of_stack(task: Task) -> str:
    if task.pid == 0:
        return "idle"
    return "kthread" if task.is_kthread else "user"
