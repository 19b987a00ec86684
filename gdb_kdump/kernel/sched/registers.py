"""Registers: of a running task from its CPU's crash note, of a sleeping one from its stack, of a pt_regs."""

from __future__ import annotations

from collections.abc import Sequence

from gdb_kdump.arch.x86_64.switch_frame import SwitchFrame
from gdb_kdump.errors import Unreadable
from gdb_kdump.formats.cfi import CALLEE_SAVED
from gdb_kdump.formats.notes import cpu_registers
from gdb_kdump.kernel.lib.percpu import PerCpu
from gdb_kdump.kernel.sched.cpus import Running
from gdb_kdump.kernel.sched.tasks import Task
from gdb_kdump.layout.unpacker import Unpacker
from gdb_kdump.records.threads import SavedFrame
from gdb_kdump.session import Session

_MEMBERS = (
    "r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx", "si", "di", "orig_ax", "ip",
    "cs", "flags", "sp", "ss", "ret_addr",
)  # fmt: skip

_NOTE_SIZE = 512  # bytes, and more than NT_PRSTATUS takes

# GDB's names for the members of struct pt_regs and struct inactive_task_frame, in the kernel's words.
_GDB_NAMES = {"ip": "rip", "ret_addr": "rip", "sp": "rsp", "flags": "eflags", "orig_ax": "orig_rax"} | {
    name: f"r{name}" for name in ("ax", "bx", "cx", "dx", "si", "di", "bp")
}


def gdb_name(member: str) -> str:
    """GDB's name of a register that the kernel calls `member`: ax is rax, ip is rip, r12 stays."""
    return _GDB_NAMES.get(member, member)


class Registers:
    """Reads the registers of one session's tasks; every result maps GDB's register names to ints."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._readers: dict[tuple[str, str], tuple[list[str], Unpacker]] = {}

    def of(self, task: Task) -> dict[str, int]:
        """The registers of a task; empty where its CPU left none.  Raises Unreadable, MissingDebugInfo."""
        for cpu, running in self._session.once(Running).tasks().items():
            if running == task.task:
                return self.of_cpu(cpu)
        return self.of_sleeping(task)

    def of_cpu(self, cpu: int) -> dict[str, int]:
        """What a CPU saved when it was stopped for the dump: its per-CPU crash note, else the dump's own note.

        Empty where there is neither; kernel/crash_core.c: crash_save_cpu.
        """
        return self._from_crash_note(cpu) or self._from_dump(cpu)

    def origin(self, cpu: int) -> str:
        """Where the registers of a CPU come from: "crash_notes", "dump note", or "none"."""
        if self._from_crash_note(cpu):
            return "crash_notes"
        return "dump note" if self._from_dump(cpu) else "none"

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
        return next((registers for _, registers in cpu_registers(data)), {})

    def _from_dump(self, cpu: int) -> dict[str, int]:
        number = self._session.once(Running).note_of(cpu)
        return dict(self._session.dump.registers[number]) if number is not None else {}

    def of_sleeping(self, task: Task) -> dict[str, int]:
        """The registers that a sleeping task left on its stack; arch/x86/include/asm/switch_to.h."""
        layout, switch = self._session.layout, self._session.once(SwitchFrame)
        if switch.is_typed:
            registers = self._read("inactive_task_frame", task.sp)
            registers["rsp"] = task.sp + layout.size("inactive_task_frame")
            return registers
        if switch.never_ran(task.stack, task.sp):
            return {"rip": self._session.debuginfo.address("ret_from_fork"), "rsp": task.sp}
        frame = switch.pushed()
        saved = {name: self._session.memory.u64(task.sp + offset) for name, offset in frame.offsets.items()}
        return {**frame.fixed, **saved, "rsp": task.sp + frame.size}

    def for_thread(self, task: Task) -> dict[str, int] | int:
        """The registers of a sleeping task, or the address of its saved_frame(), which the dump server reads itself."""
        switch = self._session.once(SwitchFrame)
        if not switch.is_typed and switch.never_ran(task.stack, task.sp):
            return self.of_sleeping(task)
        return task.sp

    def saved_frame(self) -> SavedFrame:
        """Where of_sleeping() finds its registers, for the dump server; raises MissingDebugInfo, Unreadable."""
        if not self._session.once(SwitchFrame).is_typed:
            return self._session.once(SwitchFrame).pushed()
        layout, tag = self._session.layout, "inactive_task_frame"
        names = [name for name in _MEMBERS if layout.find_member(f"{tag}.{name}") is not None]
        offsets = {gdb_name(name): layout.offset(f"{tag}.{name}") for name in names}
        return SavedFrame(layout.size(tag), offsets)

    def pt_regs(self, addr: int) -> dict[str, int]:
        """The registers in a `struct pt_regs *`; raises Unreadable."""
        return self._read("pt_regs", addr)

    def saved_from(self, addr: int, low: int) -> dict[str, int]:
        """What a `struct pt_regs *` holds of which only the bytes from `low` on were saved; raises Unreadable.

        Before v4.9 system calls and interrupts save what a C function may change, from r11 on; interrupts put rbp in
        front of it (SAVE_ARGS_IRQ, save_args).  Of a system call the user's rsp and eflags are not there.
        """
        saved = self.pt_regs(addr)
        if addr >= low:
            return saved
        base = self._session.memory.u64(low)
        is_interrupt = low - addr <= self._session.layout.offset("pt_regs.bx")
        for name in (*CALLEE_SAVED, *(() if is_interrupt else ("rsp", "eflags"))):
            saved.pop(name, None)
        return {**saved, "rbp": base} if is_interrupt else saved

    def iret_frame(self, addr: int) -> dict[str, int]:
        """The five registers that the CPU itself pushes, at the end of a `struct pt_regs`; raises Unreadable."""
        layout = self._session.layout
        start = layout.offset("pt_regs.ip")
        return self._read("pt_regs", addr - start, ("ip", "cs", "flags", "sp", "ss"))

    def _read(self, tag: str, addr: int, members: Sequence[str] = _MEMBERS) -> dict[str, int]:
        names, unpacker = self._reader(tag, members)
        return dict(zip(names, unpacker.unpack_from(*self._session.memory.block(addr, unpacker.span))))

    def _reader(self, tag: str, members: Sequence[str]) -> tuple[list[str], Unpacker]:
        key = (tag, members[0])
        if key not in self._readers:
            layout = self._session.layout
            found = [name for name in members if layout.find_member(f"{tag}.{name}") is not None]
            self._readers[key] = ([gdb_name(name) for name in found], layout.unpacker(tag, found))
        return self._readers[key]
