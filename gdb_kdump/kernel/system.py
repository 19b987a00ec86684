"""The system at the moment of the dump: release, date, uptime, load of tasks, panic."""

from __future__ import annotations

from dataclasses import dataclass

from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.kernel.panic import Panic
from gdb_kdump.kernel.sched.cpus import Running
from gdb_kdump.kernel.sched.registers import Registers
from gdb_kdump.kernel.sched.stopped import Stopped
from gdb_kdump.kernel.sched.tasks import Task
from gdb_kdump.kernel.timekeeping import uptime
from gdb_kdump.session import Session


@dataclass(frozen=True)
class System:
    """What `kinfo` tells: `date` in seconds since 1970, `uptime` in seconds, None where the dump does not say.

    `cpus` is how many CPUs there are, `stopped` those that panic() has stopped, `offline` those that were offline.
    `registers` says for each other CPU where its registers come from, as Registers.origin() says.
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
    stopped: tuple[int, ...]
    offline: tuple[int, ...]


def read_system(session: Session) -> System:
    """Read the system's facts; raises Unreadable, MissingDebugInfo for the CPUs and the panic task only."""
    panic, running = session.once(Panic), session.once(Running)
    task = panic.task()
    return System(
        session.vmcoreinfo.get("OSRELEASE") or _uts(session, "release"),
        _uts(session, "nodename"),
        _uts(session, "version"),
        len(running.tasks()) + len(running.offline()),
        _date(session),
        uptime(session),
        panic.happened(),
        panic.message(),
        panic.cpu(),
        task,
        {cpu: session.once(Registers).origin(cpu) for cpu in running.tasks()},
        session.once(Stopped).cpus(),
        tuple(running.offline()),
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
