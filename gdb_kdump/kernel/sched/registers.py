"""Registers: of a running task from its CPU's crash note, of a sleeping one from where it left them, of a pt_regs."""

from __future__ import annotations

from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.formats.notes import cpu_notes
from gdb_kdump.kernel.lib.percpu import PerCpu
from gdb_kdump.kernel.sched.cpu_stacks import CpuStacks
from gdb_kdump.kernel.sched.cpus import Running
from gdb_kdump.kernel.sched.numbered import NumberedNotes
from gdb_kdump.kernel.sched.tasks import NO_PID, UNKNOWN, Task, Tasks
from gdb_kdump.layout.sched import thread_size
from gdb_kdump.layout.unpacker import Unpacker
from gdb_kdump.records.rows import Context
from gdb_kdump.records.threads import SavedFrame
from gdb_kdump.session import Session
from gdb_kdump.text import hex16

CRASH_NOTE, DUMP_NOTE, HYPERVISOR, NONE = "crash_notes", "dump note", "hypervisor note", "none"
"""Where the registers of a CPU come from: what it saved itself, that as the dump has it, or what it had at the dump."""
_NOTE_SIZE = 512  # bytes, and more than NT_PRSTATUS takes


class Registers:
    """Reads the registers of one session's tasks; every result maps GDB's register names to ints."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._switch_frame = session.arch.switch_frame(
            session.memory,
            session.layout,
            session.debuginfo.find_address,
            lambda: thread_size(session.layout, session.debuginfo.find_address),
        )
        self._by_cpu: dict[int, tuple[str, dict[str, int], str]] = {}
        self._contexts: dict[Context, tuple[int, list[str], Unpacker]] = {}

    def of(self, task: Task) -> dict[str, int]:
        """The registers of a task; empty where its CPU left none.  Raises Unreadable, MissingDebugInfo."""
        cpu = self._session.once(Running).cpu_of(task.addr)
        return self.of_sleeping(task) if cpu is None else self.of_cpu(cpu)

    def of_cpu(self, cpu: int) -> dict[str, int]:
        """What a CPU saved when it was stopped for the dump: its per-CPU crash note, else the dump's own note.

        Empty where there is neither, or where they cannot be its own; kernel/crash_core.c: crash_save_cpu.
        """
        return self._own(cpu)[1]

    def origin(self, cpu: int) -> str:
        """Where the registers of a CPU come from: CRASH_NOTE, DUMP_NOTE, HYPERVISOR or NONE."""
        return self._own(cpu)[0]

    def why_none(self, task: Task) -> str:
        """Why there are no registers of a task on a CPU, or the empty string where there are."""
        cpu = self._session.once(Running).cpu_of(task.addr)
        return "" if cpu is None else self._own(cpu)[2]

    def _own(self, cpu: int) -> tuple[str, dict[str, int], str]:
        """The origin of a CPU's registers, these registers, and why there are none."""
        if cpu not in self._by_cpu:
            self._by_cpu[cpu] = self._checked(cpu)
        return self._by_cpu[cpu]

    def _checked(self, cpu: int) -> tuple[str, dict[str, int], str]:
        session, running = self._session, self._session.once(Running)
        origin, registers = CRASH_NOTE, self._from_crash_note(cpu)
        if not registers:
            origin = HYPERVISOR if session.once(NumberedNotes).any() else DUMP_NOTE
            registers = self._from_dump(cpu)
        if not registers:
            offline = cpu in running.offline()
            why = f"CPU {cpu} was offline" if offline else f"CPU {cpu} left no registers for this running task"
            return NONE, {}, why
        task = running.tasks().get(cpu) or running.offline().get(cpu)
        sp = registers.get(session.arch.sp, 0)
        in_kernel = not session.arch.state(registers, True).in_user_mode
        if task and in_kernel and session.once(CpuStacks).contradicts(cpu, task, sp):
            why = f"the {origin} for CPU {cpu} has another one's registers: sp {hex16(sp)} is on none of its stacks"
            return NONE, {}, why
        return origin, registers, ""

    def stack_pointer(self, cpu: int) -> int:
        """The stack pointer of a CPU, 0 where it left no registers."""
        return self.of_cpu(cpu).get(self._session.arch.sp, 0)

    def _from_crash_note(self, cpu: int) -> dict[str, int]:
        session = self._session
        symbol = session.debuginfo.find_address("crash_notes")
        if symbol is None:
            return {}
        try:
            note = session.once(PerCpu).pointer(session.memory.ptr(symbol), cpu)
            data, _ = session.memory.read_prefix(note, _NOTE_SIZE)
        except Unreadable:
            return {}
        # Not by types: a kernel without ptrace has no struct user_regs_struct.  All zero where the CPU wrote none.
        notes = cpu_notes(data, session.arch.registers.note)
        return next((note.registers for note in notes), {})

    def _from_dump(self, cpu: int) -> dict[str, int]:
        number = self._session.once(Running).note_of(cpu)
        return dict(self._session.dump.registers[number]) if number is not None else {}

    def of_sleeping(self, task: Task) -> dict[str, int]:
        """The registers that a sleeping task left; raises Unreadable, MissingDebugInfo."""
        left = self.for_thread(task)
        if not isinstance(left, int):
            return left
        frame = self.saved_frame()
        data = self._session.memory.read(left, frame.size)
        saved = {name: int.from_bytes(data[offset : offset + 8], "little") for name, offset in frame.offsets.items()}
        return {**frame.fixed, **saved, **{name: left + offset for name, offset in frame.relative.items()}}

    def for_thread(self, task: Task) -> dict[str, int] | int:
        """The registers of a sleeping task, or the address of its saved_frame(), which the dump server reads itself."""
        return self._switch_frame.find(task.addr, task.stack, task.sp)

    def saved_frame(self) -> SavedFrame:
        """Where of_sleeping() finds its registers, for the dump server; raises MissingDebugInfo, Unreadable."""
        return self._switch_frame.frame

    def context(self, addr: int, context: Context) -> dict[str, int]:
        """The registers that an interruption saved from an address on; raises Unreadable, MissingDebugInfo."""
        known = self._contexts.get(context)
        if known is None:
            known = self._contexts[context] = self._context_reader(context)
        start, names, unpacker = known
        return dict(zip(names, unpacker.unpack_from(*self._session.memory.block(addr - start, unpacker.span))))

    def _context_reader(self, context: Context) -> tuple[int, list[str], Unpacker]:
        layout, by_member = self._session.layout, self._session.arch.registers.by_member
        members = [name for name in context.members if layout.find_member(f"pt_regs.{name}") is not None]
        start = layout.offset(f"pt_regs.{members[0]}")
        return start, [by_member[name] for name in members], layout.unpacker("pt_regs", members)


def task_on(session: Session, cpu: int) -> Task:
    """The task on a CPU; with NO_PID, UNKNOWN and the stack of its registers where its page is missing.

    Raises Unreadable where there are no registers either, MissingDebugInfo.
    """
    running = session.once(Running)
    addr = running.tasks().get(cpu) or running.offline()[cpu]
    if not addr:
        raise MissingDebugInfo(f"idle task of CPU {cpu}, which was offline")
    try:
        return session.once(Tasks).read(addr)
    except Unreadable:
        sp = session.once(Registers).stack_pointer(cpu)
        if not sp:
            raise
        stack = sp & -thread_size(session.layout, session.debuginfo.find_address)
        return Task(addr, NO_PID, NO_PID, UNKNOWN.encode(), UNKNOWN, cpu, False, True, sp, stack)
