"""The task that each CPU was running: as the kernel notes it, or by the stack that the CPU's registers are on."""

from __future__ import annotations

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.lists import list_for_each
from gdb_kdump.kernel.lib.percpu import PerCpu
from gdb_kdump.layout.sched import task_cpu, thread_size
from gdb_kdump.layout.table import CURRENT_TASK
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps


class Running:
    """Finds the running tasks of one session; `gaps`: which symbols were missing, so that another way was used."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tasks: dict[int, int] | None = None
        self._notes: dict[int, int] | None = None  # which note is whose, where the notes led to the tasks
        self.gaps = Gaps()

    def tasks(self) -> dict[int, int]:
        """CPU number to `struct task_struct *`, of every online CPU; raises MissingDebugInfo, Unreadable.

        Where the types or symbols do not lead to them, of those CPUs that the dump has registers of.
        """
        if self._tasks is None:
            try:
                self._tasks = self._noted()
            except MissingDebugInfo as error:
                noted = self._by_registers()
                if not noted:
                    raise
                self._tasks = {cpu: task for cpu, (_, task) in noted.items()}
                self._notes = {cpu: note for cpu, (note, _) in noted.items()}
                self.gaps.note(f"the running tasks are those on whose stacks the CPUs were: {error}")
        return self._tasks

    def note_of(self, cpu: int) -> int | None:
        """Which of the dump's notes is that of a CPU, or None.

        Notes have no numbers, but those of the online CPUs come in that order; where one is missing, or one is too
        many, the PIDs tell.  Raises MissingDebugInfo, Unreadable.
        """
        pids, running = self._session.dump.pids, self.tasks()
        if self._notes is not None:
            return self._notes.get(cpu)
        if cpu not in running:
            return cpu if cpu < len(pids) else None
        if len(pids) == len(running):
            return sorted(running).index(cpu)
        pid = self._session.number(running[cpu], "task_struct.pid")
        return pids.index(pid) if pids.count(pid) == 1 else None

    def _noted(self) -> dict[int, int]:
        """By the machine's own variable, which changes with the stack; else by what the scheduler has just chosen.

        arch/x86/include/asm/current.h; kernel/sched/core.c: __schedule.
        """
        percpu, memory = self._session.once(PerCpu), self._session.memory
        for symbol, path in CURRENT_TASK:
            if percpu.find_symbol(symbol) is None:
                continue
            offset = self._session.layout.offset(f"{symbol}.{path}") if path else 0
            return {cpu: memory.ptr(percpu.symbol(symbol, cpu) + offset) for cpu in percpu.online_cpus()}
        if percpu.find_symbol("runqueues") is not None:
            offset = self._session.layout.offset("rq.curr")
            return {cpu: memory.ptr(percpu.symbol("runqueues", cpu) + offset) for cpu in percpu.online_cpus()}
        raise MissingDebugInfo("per-CPU current task", [symbol for symbol, _ in CURRENT_TASK])

    def _by_registers(self) -> dict[int, tuple[int, int]]:
        """By CPU, as its task says or else by the note's number: which note that is, and the task."""
        dump, by_cpu = self._session.dump, dict[int, tuple[int, int]]()
        for number, (registers, pid) in enumerate(zip(dump.registers, dump.pids)):
            sp = registers.get(self._session.arch.sp)
            task = 0 if sp is None else self._on_stack(sp) or self._listed(sp, pid)
            if task:
                cpu = self._cpu_of(task)
                by_cpu[number if cpu is None or cpu in by_cpu else cpu] = number, task
        return by_cpu

    def _cpu_of(self, task: int) -> int | None:
        try:
            own, _ = task_cpu(self._session.layout)
            if own is not None:
                return self._session.number(task, "task_struct.cpu")
            return self._session.number(self._session.pointer(task, "task_struct.stack"), "thread_info.cpu")
        except (MissingDebugInfo, Unreadable):
            return None

    def _on_stack(self, sp: int) -> int | None:
        """The task that the struct thread_info at the end of a stack names; before c65eacbe290b (v4.9)."""
        try:
            base = sp & -thread_size(self._session.layout, self._session.debuginfo.find_address)
            task = self._session.pointer(base, "thread_info.task")
            return task if self._session.pointer(task, "task_struct.stack") == base else None
        except (MissingDebugInfo, Unreadable):
            return None

    def _listed(self, sp: int, pid: int | None) -> int | None:
        """The task of the list whose stack that is, else the one with that PID."""
        session, same_pid = self._session, None
        try:
            node = session.layout.offset("task_struct.tasks")
            size = thread_size(session.layout, session.debuginfo.find_address)
            init_task = session.debuginfo.address("init_task")
            for task in (init_task, *(addr - node for addr in list_for_each(session, init_task + node))):
                if 0 <= sp - session.pointer(task, "task_struct.stack") < size:
                    return int(task)
                if pid and session.number(task, "task_struct.pid") == pid:
                    same_pid = int(task)
        except (MissingDebugInfo, Unreadable, Corrupt):
            pass  # as far as the list goes
        return same_pid
