"""Stacks: from registers to the frames of a task, across interrupts, exceptions and stack switches.

Two tables are asked at every address.  ORC knows where the caller's frame is, across stack switches and in entry code
(arch/x86/kernel/unwind_orc.c: unwind_next_frame).  DWARF knows which registers the callee saved for its caller, and
stands in for ORC in the few functions that objtool leaves out, __crash_kexec for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from gdb_kdump.arch.x86_64.frame_pointers import FrameChain
from gdb_kdump.arch.x86_64.orc import FrameType, Orc, OrcEntry, has_orc
from gdb_kdump.errors import Unreadable
from gdb_kdump.formats.cfi import CALLEE_SAVED, Row
from gdb_kdump.kernel.module.modules import Module, Modules
from gdb_kdump.kernel.module.source import Source, SourceFrame
from gdb_kdump.kernel.sched.registers import Registers
from gdb_kdump.kernel.sched.tasks import Task
from gdb_kdump.layout.layout import orc_indirect
from gdb_kdump.session import Session
from gdb_kdump.text import hex16

MAX_FRAMES = 1000
_U64 = (1 << 64) - 1
_USER_MODE = 3  # the privilege level in cs; arch/x86/include/asm/ptrace.h: user_mode


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


@dataclass(frozen=True)
class Trace:
    """The frames of a task and why they end: "user", "kthread", "idle", or a sentence; `note` is a remark on them."""

    task: Task
    frames: tuple[Frame, ...]
    ended: str
    note: str = ""


@dataclass(frozen=True)
class State:
    """Where the unwinder is: the registers it knows, and whether pc was interrupted rather than called from."""

    registers: dict[str, int]
    interrupted: bool

    @property
    def pc(self) -> int:
        return self.registers["rip"]

    @property
    def sp(self) -> int:
        return self.registers["rsp"]

    @property
    def in_user_mode(self) -> bool:
        return bool(self.registers.get("cs", 0) & _USER_MODE)


@dataclass(frozen=True)
class Step:
    """How to get from one state to its caller."""

    orc: OrcEntry | None
    cfi: Row | None

    @property
    def is_plain_call(self) -> bool:
        """Whether DWARF alone finds the caller: ORC agrees, or does not know."""
        if self.cfi is None or self.orc is None:
            return self.cfi is not None
        if self.orc.type is FrameType.UNDEFINED:
            return True
        return self.orc.type is FrameType.CALL and (self.orc.sp_reg, self.orc.sp_offset) == (
            self.cfi.cfa_register,
            self.cfi.cfa_offset,
        )


@dataclass(frozen=True)
class Hop:
    """One step of a walk: a state and its caller; `ended` says why there is none, or why it is not kernel code."""

    state: State
    caller: State | None
    ended: str


class Stop(Exception):
    """The trace ends here, and why."""


class Stacks:
    """Unwinds the stacks of one session's tasks."""

    def __init__(self, session: Session) -> None:
        self._memory = session.memory
        self._debuginfo = session.debuginfo
        self._orc = session.once(Orc) if has_orc(session) else None
        self._source = session.once(Source)
        self._modules = session.once(Modules)
        self._registers = session.once(Registers)
        self._chain = session.once(FrameChain)
        self._steps: dict[int, Step] = {}

    @property
    def has_frame_pointers(self) -> bool:
        """Whether each frame has a link to the next one at rbp, which is what kernels without ORC unwind by."""
        return self._orc is None

    def trace(self, task: Task) -> Trace:
        """The frames of a task from its saved registers on; what stops a trace is told in `ended`."""
        if not task.stack:
            return Trace(task, (), "the task has exited, and its stack has been freed")
        try:
            registers = self._registers.of(task)
            if not registers:
                return Trace(task, (), f"CPU {task.cpu} left no registers for this running task")
            # A task that never ran is about to "return" to the start of ret_from_fork, where nothing called from.
            starts = self._source.symbol(registers["rip"])[1] == 0
            state = self._first(State(registers, task.running or starts))
        except Unreadable as error:
            return Trace(task, (), f"its saved registers: {error}")
        frames, ended = self.frames_from(state, _end_of_stack(task))
        return Trace(task, tuple(frames), ended)

    def frames_from(self, state: State, end: str) -> tuple[list[Frame], str]:
        """The frames from a state on and why they end; `end` is the word for the proper end of that stack."""
        if state.in_user_mode:
            return [], "user"
        if not self._source.is_text(state.pc):
            return [], f"pc {hex16(state.pc)} is not in kernel text (sp {hex16(state.sp)})"
        hops = list(self.walk(state, end))
        return self.frames(hops), hops[-1].ended or f"stopped after {MAX_FRAMES} stack frames"

    def frames(self, hops: Sequence[Hop]) -> list[Frame]:
        """The frames of the hops of one walk."""
        frames: list[Frame] = []
        for hop in hops:
            frames += self._frames(len(frames), hop)
        return frames

    def _first(self, state: State) -> State:
        """Where to begin: at the state, or at the caller of a function pointer that led nowhere."""
        if state.in_user_mode or self._source.is_text(state.pc):
            return state
        called_from = self._memory.u64(state.sp)
        if not self._source.is_text(called_from):
            return state
        return State(state.registers | {"rip": called_from, "rsp": state.sp + 8}, False)

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
        if not self._source.is_text(caller.pc - (not caller.interrupted)):
            return Hop(state, None, f"pc {hex16(caller.pc)} is not in kernel text (sp {hex16(caller.sp)})")
        return Hop(state, caller, "")

    def _frames(self, level: int, hop: Hop) -> list[Frame]:
        """The frames of one state: those inlined there, and the real one with what its caller's interruption saved."""
        state, caller = hop.state, hop.caller
        stack = state.sp if state.interrupted else state.sp - 8
        frames = [
            Frame(level + number, state.pc, state.sp, stack, source, "normal", state.registers)
            for number, source in enumerate(self._source.frames(state.pc, not state.interrupted))
        ]
        if caller is not None and caller.interrupted:
            kind = _entry_kind(frames[-1].source.function)
            frames[-1] = replace(frames[-1], kind=kind, saved=caller.registers)
        return frames

    def step(self, pc: int) -> Step:
        """What is known of the code at `pc`; raises Unreadable."""
        if pc not in self._steps:
            module = None if self._source.in_kernel(pc) else self._modules.find(pc)
            orc = self._find_orc(pc, module) if self._orc is not None else None
            self._steps[pc] = Step(orc, self._debuginfo.find_cfi(pc) if module is None else None)
        return self._steps[pc]

    def _find_orc(self, pc: int, module: Module | None) -> OrcEntry | None:
        assert self._orc is not None
        table = self._orc.text if module is None else self._modules.find_orc(module)
        return self._orc.find(table, pc) if table is not None else None

    def unwind(self, state: State) -> State | None:
        """The caller's state, or None at the end of the stack; raises Stop, Unreadable, MissingDebugInfo."""
        caller = self._caller(state)
        # Without ORC the stacks of kernel threads and idle tasks begin with a return address of 0; head_64.S.
        return None if caller is not None and not caller.pc and self._orc is None else caller

    def _caller(self, state: State) -> State | None:
        step = self.step(state.pc if state.interrupted else state.pc - 1)
        orc = step.orc
        if orc is not None and orc.type is FrameType.END_OF_STACK:
            return None
        if orc is None or orc.type is FrameType.UNDEFINED or not orc.sp_reg:
            if step.cfi is None:
                return self._by_frame_pointer(state)
            cfa = (self._known(state, step.cfi.cfa_register) + step.cfi.cfa_offset) & _U64
            return self._called(state, cfa, None, step.cfi)
        cfa = self._orc_cfa(state, orc)
        if orc.type is FrameType.REGS:
            return State(self._registers.pt_regs(cfa), True)
        if orc.type is FrameType.REGS_PARTIAL:
            return State(self._registers.iret_frame(cfa), True)
        return self._called(state, cfa, orc, step.cfi)

    def _by_frame_pointer(self, state: State) -> State | None:
        """The caller where neither table knows: kernels without ORC have frame pointers."""
        if self._orc is not None:
            raise Stop(f"the kernel has no unwind information for pc {hex16(state.pc)}")
        found = self._chain.caller(state.registers, state.interrupted)
        if found is None:
            raise Stop(f"the chain of frame pointers is broken at pc {hex16(state.pc)}")
        return State(*found) if found[0] else None

    def _called(self, state: State, cfa: int, orc: OrcEntry | None, cfi: Row | None) -> State:
        """The state behind a call: the return address below the CFA, the registers that the callee saved or left."""
        if (cfa <= state.sp and orc is None) or cfa % 8:
            raise Stop(f"the stack does not go on from sp {hex16(state.sp)}: the next frame would be at {hex16(cfa)}")
        registers = {"rip": self._memory.u64(cfa - 8), "rsp": cfa}
        if cfi is not None:
            for name in CALLEE_SAVED:
                if name in cfi.saved:
                    registers[name] = self._memory.u64((cfa + cfi.saved[name]) & _U64)
                elif name in state.registers and name not in cfi.lost:
                    registers[name] = state.registers[name]
        elif orc is not None:
            base = state.registers.get("rbp")
            if orc.bp_reg == "cfa":
                registers["rbp"] = self._memory.u64((cfa + orc.bp_offset) & _U64)
            elif orc.bp_reg == "rbp" and base is not None:
                registers["rbp"] = self._memory.u64((base + orc.bp_offset) & _U64)
            elif base is not None:
                registers["rbp"] = base
        return State(registers, False)

    def _orc_cfa(self, state: State, orc: OrcEntry) -> int:
        if orc.sp_reg == "[rsp]":
            return orc_indirect(self._memory.u64, self._source.is_text, state.sp, orc.sp_offset)
        at = (self._known(state, orc.sp_reg.strip("[]")) + orc.sp_offset) & _U64
        return self._memory.u64(at) if orc.sp_reg == "[rbp]" else at

    def _known(self, state: State, name: str) -> int:
        value = state.registers.get(name)
        if value is None:
            raise Stop(f"{name} is not known at pc {hex16(state.pc)}")
        return value


# arch/x86/entry/entry_64.S today, arch/x86/kernel/entry_64.S and arch/x86/ia32/ia32entry.S before v4.3.
_SYSCALL_NAMES = (
    "SYSCALL", "SYSENTER", "INT80", "int80", "system_call", "sys_call", "sysret", "sysenter", "cstar", "tracesys",
    "ptregs", "stub_",
)  # fmt: skip


def _entry_kind(function: str | None) -> str:
    """The kind of an entry frame by the name of its code; arch/x86/include/asm/idtentry.h: DECLARE_IDTENTRY*."""
    name = function or ""
    if "nmi" in name:
        return "nmi"
    if any(word in name for word in _SYSCALL_NAMES):
        return "syscall"
    if "interrupt" in name or "sysvec" in name or "irq" in name or "intr" in name:
        return "irq"
    return "exception"


def _end_of_stack(task: Task) -> str:
    if task.pid == 0:
        return "idle"
    return "kthread" if task.is_kthread else "user"
