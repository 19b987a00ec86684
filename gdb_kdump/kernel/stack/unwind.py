"""Stacks: from registers to the frames of a task, across interrupts, exceptions and stack switches.

The architecture says at every address how to get to the caller (a Row, of ORC, DWARF, ...); this file goes there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from gdb_kdump.arch.readers import Kernel
from gdb_kdump.arch.state import Broken, EndOfStack, State, Stop
from gdb_kdump.errors import Unreadable
from gdb_kdump.kernel.module.modules import Modules
from gdb_kdump.kernel.module.source import Source, SourceFrame
from gdb_kdump.kernel.sched.registers import Registers
from gdb_kdump.kernel.sched.tasks import Task
from gdb_kdump.kernel.stack.return_addresses import ReturnAddresses
from gdb_kdump.records.rows import Cfa, Row
from gdb_kdump.session import Session
from gdb_kdump.text import hex16

MAX_FRAMES = 1000
_U64 = (1 << 64) - 1


@dataclass(frozen=True)
class Frame:
    """One function of a trace: `pc`, `sp` and the other `registers` known in it, by GDB's names.

    `stack` is where its return address stands that pc is; crash's `bt` shows that. It is sp where pc was interrupted.
    `kind` is normal, or exception, irq, nmi, syscall for entry code, with all registers of what it interrupted in
    `saved`.  Inlined frames share pc, sp and registers with the one that follows.
    """

    level: int
    pc: int
    sp: int
    stack: int
    source: SourceFrame
    kind: str
    registers: dict[str, int]
    saved: dict[str, int] = field(default_factory=dict)
    from_user: bool = False
    """Whether what entry code interrupted was user space."""


@dataclass(frozen=True)
class Trace:
    """The frames of a task and why they end: "user", "kthread", "idle", or a sentence; `note` is a remark on them."""

    task: Task
    frames: tuple[Frame, ...]
    ended: str
    note: str = ""


@dataclass(frozen=True)
class Hop:
    """One step of a walk: a state and its caller; `ended` says why there is none, or why it is not kernel code."""

    state: State
    caller: State | None
    ended: str


class Stacks:
    """Unwinds the stacks of one session's tasks."""

    def __init__(self, session: Session) -> None:
        self._memory = session.memory
        self._source = session.once(Source)
        self._registers = session.once(Registers)
        self._arch = session.arch
        self._unwinder = session.arch.unwinder(
            Kernel(
                session.memory,
                session.layout,
                self._source,
                session.debuginfo.find_address,
                session.once(Modules).find,
                self._source.find_generated,
                session.debuginfo.find_cfi,
                self._registers.context,
            )
        )
        self.returns = session.once(ReturnAddresses)
        self._uncalled: dict[int, bool] = {}
        self.callers_between = self._unwinder.callers_between
        self.framed = self._unwinder.framed
        self.contexts_between = self._unwinder.contexts_between
        self.is_after_call = self._unwinder.is_after_call
        self.entry_rows = self._unwinder.entry_rows

    def trace(self, task: Task) -> Trace:
        """The frames of a task from its saved registers on; what stops a trace is told in `ended`."""
        if not task.stack:
            return Trace(task, (), "the task has exited, and its stack has been freed")
        try:
            registers = self._registers.of(task)
            if not registers:
                return Trace(task, (), self._registers.why_none(task))
            # A task that never ran is about to "return" to the start of ret_from_fork, where nothing called from.
            starts = self._source.symbol(registers[self._arch.pc])[1] == 0
            state = self._arch.state(registers, task.running or starts)
        except Unreadable as error:
            return Trace(task, (), f"its saved registers: {error}")
        frames, ended = self.frames_from(state, proper_end(task))
        return Trace(task, tuple(frames), ended)

    def frames_from(self, state: State, end: str) -> tuple[list[Frame], str]:
        """The frames from a state on and why they end; `end` is the word for the proper end of that stack."""
        if state.in_user_mode:
            return [], "user"
        if not self._source.is_text(state.pc):
            try:
                self.unwind(state)
            except (Unreadable, Stop) as error:
                return [], str(error)
        hops = list(self.walk(state, end))
        return self.frames(hops), hops[-1].ended or f"stopped after {MAX_FRAMES} stack frames"

    def frames(self, hops: Sequence[Hop]) -> list[Frame]:
        """The frames of the hops of one walk."""
        frames: list[Frame] = []
        for hop in hops:
            frames += self._frames(len(frames), hop)
        return frames

    def walk(self, state: State, end: str) -> Iterator[Hop]:
        """Yield every hop from a state in kernel text on, the last one with why it is the last."""
        for _ in range(MAX_FRAMES):
            hop = self._hop(state, end)
            yield hop
            if hop.ended or hop.caller is None:
                return
            state = hop.caller

    def _hop(self, state: State, end: str) -> Hop:
        try:
            caller = self.unwind(state)
        except (Unreadable, Stop) as error:
            return Hop(state, None, str(error))
        if caller is None:
            return Hop(state, None, end)
        if caller.in_user_mode:
            return Hop(state, caller, "user")
        if not caller.interrupted and not self._source.is_text(caller.pc - 1):
            return Hop(state, None, _no_code(caller))
        return Hop(state, caller, "")

    def _frames(self, level: int, hop: Hop) -> list[Frame]:
        """The frames of one state: those inlined there, and the real one with what its caller's interruption saved."""
        state, caller = hop.state, hop.caller
        stack = self._arch.return_slot(state)
        frames = [
            Frame(level + number, state.pc, state.sp, stack, source, "normal", state.registers)
            for number, source in enumerate(self._source.frames(state.pc, self._is_return_address(state)))
        ]
        if caller is not None and caller.interrupted:
            kind = self._arch.entry_kind(frames[-1].source.function)
            frames[-1] = replace(frames[-1], kind=kind, saved=caller.registers, from_user=caller.in_user_mode)
        return frames

    def _is_return_address(self, state: State) -> bool:
        """Whether pc stands after a call, and not where a function begins that nothing has called from.

        A function that ends in a call of one that never returns has its return address at the next one's first byte.
        """
        pc = state.pc
        if state.interrupted:
            return False
        if pc not in self._uncalled:
            after_call = self._unwinder.is_after_call(pc) or not self._source.in_kernel(pc)
            self._uncalled[pc] = not after_call and self._source.symbol(pc)[1] == 0
        return not self._uncalled[pc]

    def row(self, state: State) -> Row | None:
        """How to get from a state to its caller, or None where there is no table of that; raises Unreadable."""
        return self._unwinder.row(state)

    def unwind(self, state: State) -> State | None:
        """The caller's state, or None at the end of the stack; raises Stop, Unreadable, MissingDebugInfo."""
        if state.interrupted and not self._source.is_text(state.pc):
            return self._caller_of_no_code(state)
        row = self._unwinder.row(state)
        caller = self._by_row(state, row) if row is not None else self._without_row(state)
        if caller is not None and not caller.pc and self._unwinder.ends_at_zero:
            return None
        return self._with_own_return_address(caller)

    def _caller_of_no_code(self, state: State) -> State:
        """Who called what is no code: the pointer led nowhere, and nothing has been done there; raises Stop."""
        caller = self._unwinder.before_call(state)
        if not self._source.is_text(caller.pc - 1) or not self._unwinder.is_after_call(caller.pc):
            raise Stop(_no_code(state))
        return caller

    def _with_own_return_address(self, caller: State | None) -> State | None:
        """The same caller, with the return address that tracing has replaced.

        arch/x86/include/asm/unwind.h: unwind_recover_ret_addr.
        """
        if caller is None or caller.interrupted or caller.pc not in self.returns.trampolines:
            return caller
        own = self.returns.own(self._arch.return_slot(caller), caller.pc)
        return self._arch.after_call({**caller.registers, self._arch.pc: own})

    def _without_row(self, state: State) -> State | None:
        caller = self._unwinder.fallback(state)
        if isinstance(caller, Broken):
            raise Stop(caller.why)
        return None if isinstance(caller, EndOfStack) else caller

    def _by_row(self, state: State, row: Row) -> State | None:
        if row.is_end:
            return None
        cfa = self._cfa(state, row)
        if row.context is not None:
            return self._arch.state(self._registers.context(cfa, row.context), True)
        if cfa % 8 or (cfa <= state.sp and not row.may_change_stack):
            raise Stop(f"the stack does not go on from sp {hex16(state.sp)}: the next frame would be at {hex16(cfa)}")
        known, saved, u64 = state.registers, row.saved, self._memory.u64
        registers = {self._arch.sp: cfa}
        for name in self._unwinder.restored:
            if name in saved:
                registers[name] = u64((cfa + saved[name]) & _U64)
            elif name in known and name not in row.lost:
                registers[name] = known[name]
        for name, (base, offset) in row.saved_elsewhere.items():
            if base in known:
                registers[name] = u64((known[base] + offset) & _U64)
        return self._arch.after_call(registers)

    def _cfa(self, state: State, row: Row) -> int:
        base = state.registers.get(row.cfa_register)
        if base is None:
            raise Stop(f"{row.cfa_register} is not known at pc {hex16(state.pc)}")
        if row.cfa is Cfa.SUM:
            return (base + row.cfa_offset) & _U64
        if row.cfa is Cfa.WORD:
            return self._memory.u64((base + row.cfa_offset) & _U64)
        return (self._memory.u64(base) + row.cfa_offset) & _U64


def _no_code(state: State) -> str:
    return f"pc {hex16(state.pc)} is not in kernel text (sp {hex16(state.sp)})"


def proper_end(task: Task) -> str:
    """The word for where a task's stack ends that was unwound completely: "idle", "kthread" or "user"."""
    if task.pid == 0:
        return "idle"
    return "kthread" if task.is_kthread else "user"
