"""The system at the moment of the dump: release, date, uptime, load of tasks, panic."""

from __future__ import annotations

from dataclasses import dataclass

from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.panic import Panic
from gdb_kdump.kernel.sched.cpus import Running
from gdb_kdump.kernel.sched.registers import Registers
from gdb_kdump.kernel.sched.tasks import Task
from gdb_kdump.kernel.timekeeping import uptime
from gdb_kdump.session import Session


@dataclass(frozen=True)
class System:
    """What `kinfo` tells: `date` in seconds since 1970, `uptime` in seconds, None where the dump does not say.

    `registers` says for each online CPU where its registers come from: "crash_notes", "dump note" or "none".
    """

    release: str | None
    nodename: str | None
    version: str | None
    cpus: int
    date: int | None
    uptime: int | None
    crashed: bool
    panic_message: str | None
    panic_cpu: int
    panic_task: Task
    registers: dict[int, str]


def read_system(session: Session) -> System:
    """Read the system's facts; raises Unreadable, MissingDebugInfo for the CPUs and the panic task only."""
    panic = session.once(Panic)
    task = panic.task()
    return System(
        session.vmcoreinfo.get("OSRELEASE") or _uts(session, "release"),
        _uts(session, "nodename"),
        _uts(session, "version"),
        len(session.once(Running).tasks()),
        _date(session),
        uptime(session),
        panic.happened(),
        panic.message(),
        panic.cpu(),
        task,
        {cpu: session.once(Registers).origin(cpu) for cpu in session.once(Running).tasks()},
    )


def _uts(session: Session, name: str) -> str | None:
    try:
        member = session.layout.member(f"uts_namespace.{name}")
        addr = session.debuginfo.address("init_uts_ns") + member.offset
        return session.memory.cstring(addr, member.size).decode("utf-8", "backslashreplace")
    except (Unreadable, MissingDebugInfo):
        return None


def _date(session: Session) -> int | None:
    """Wall-clock time of the crash, as the dying kernel noted it; kernel/crash_core.c: CRASHTIME."""
    noted = session.vmcoreinfo.get("CRASHTIME")
    return int(noted) if noted and noted.isdecimal() else None
