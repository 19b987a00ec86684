"""The task that each CPU was running: as the kernel notes it, or by the stack that the CPU's registers are on."""

from __future__ import annotations

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.lib.lists import list_for_each
from gdb_kdump.kernel.lib.percpu import PerCpu
from gdb_kdump.kernel.sched.numbered import NumberedNotes
from gdb_kdump.kernel.sched.on_cpu import idle_task_of, task_of_cpu
from gdb_kdump.kernel.sched.stopped import Stopped
from gdb_kdump.layout.sched import task_cpu, thread_size
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps


class Running:
    """Finds the running tasks of one session; `gaps`: which symbols were missing, so that another way was used."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tasks: dict[int, int] | None = None
        self._offline: dict[int, int] | None = None
        self._cpus: dict[int, int] | None = None  # by task
        self._notes: dict[int, int] | None = None  # which note is whose, where the notes led to the tasks
        self.gaps = Gaps()

    def tasks(self) -> dict[int, int]:
        """CPU number to `struct task_struct *`, of every CPU that is online or that panic() has stopped.

        Where the types or symbols do not lead to them, of those CPUs that the dump has registers of.
        Raises MissingDebugInfo, Unreadable.
        """
        if self._tasks is None:
            session = self._session
            try:
                cpus = sorted({*session.once(PerCpu).online_cpus(), *session.once(Stopped).cpus()})
                self._tasks = {cpu: task_of_cpu(session, cpu) for cpu in cpus}
            except MissingDebugInfo as error:
                noted = self._by_registers()
                if not noted:
                    raise
                self._tasks = {cpu: task for cpu, (_, task) in noted.items()}
                self._notes = {cpu: note for cpu, (note, _) in noted.items()}
                self.gaps.note(f"the running tasks are those on whose stacks the CPUs were: {error}")
        return self._tasks

    def offline(self) -> dict[int, int]:
        """CPU number to its idle task, of every CPU that is there but was offline; only that can have been on it.

        The task is 0 where nothing leads to it.  Raises MissingDebugInfo, Unreadable.
        """
        if self._offline is None:
            running, known = self.tasks(), list[int]()
            try:
                known = self._session.once(PerCpu).present_cpus() if self._notes is None else []
            except Unreadable as error:
                self.gaps.note(f"which CPUs were offline is not known: {error}")
            self._offline = {cpu: self._find_idle(cpu) for cpu in known if cpu not in running}
        return self._offline

    def _find_idle(self, cpu: int) -> int:
        try:
            return idle_task_of(self._session, cpu)
        except (MissingDebugInfo, Unreadable):
            return 0

    def cpu_of(self, task: int) -> int | None:
        """The CPU that a `struct task_struct *` is on, running or as the idle task of an offline CPU; or None."""
        if self._cpus is None:
            on_cpus = {**self.offline(), **self.tasks()}
            self._cpus = {on_cpu: cpu for cpu, on_cpu in sorted(on_cpus.items(), reverse=True)}
        return self._cpus.get(task)

    def note_of(self, cpu: int) -> int | None:
        """Which of the dump's notes is that of a CPU, or None.

        A hypervisor has numbered them. The kernel's own have no numbers, but those of the online CPUs come in that
        order; where one is missing, or one is too many, the PIDs tell.  Raises MissingDebugInfo, Unreadable.
        """
        numbered = self._session.once(NumberedNotes)
        if numbered.any():
            return numbered.of_cpu().get(cpu)
        pids, running = self._session.dump.pids, self.tasks()
        if self._notes is not None:
            return self._notes.get(cpu)
        stopped = self._session.once(Stopped).cpus()
        online = sorted(running.keys() - stopped)
        if cpu not in online:
            return None
        if len(pids) == len(online):
            return online.index(cpu)
        pid = self._session.number(running[cpu], "task_struct.pid")
        return pids.index(pid) if pids.count(pid) == 1 else None

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
