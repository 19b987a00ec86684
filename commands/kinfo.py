"""kinfo: what was opened, and what it says of itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from gdb_kdump.commands.arguments import Arguments
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.kps import display_name
from gdb_kdump.commands.show.tables import pairs, table
from gdb_kdump.errors import UsageError
from gdb_kdump.kernel.mm.left_out import LeftOut
from gdb_kdump.kernel.system import System, read_system
from gdb_kdump.session import Session
from gdb_kdump.text import hex16
from gdb_kdump.walks import Gaps


@dataclass(frozen=True)
class Info:
    """The session and its system; `layout` asks for the rows of the table that won."""

    session: Session
    system: System
    layout: bool


class Kinfo(Command[Info]):
    name = "kinfo"
    operands = "[layout]"
    summary = """Show what dump is open: kernel, files, format, KASLR offset, CPUs, date, panic.
With `layout`: for each structure member that kernels disagree on, the path that this kernel has."""

    def read(self, session: Session, arguments: Arguments, gaps: Gaps) -> Info:
        if arguments.operands not in ([], ["layout"]):
            raise UsageError("the only operand is `layout`")
        if arguments.operands:
            session.layout.resolve_all()
        return Info(session, read_system(session), bool(arguments.operands))

    def text(self, result: Info) -> Iterator[str]:
        if result.layout:
            return table(("MEMBER", "HERE"), sorted(result.session.layout.chosen.items()))
        return summary(result.session, result.system)

    def json(self, result: Info) -> Any:
        session, system = result.session, result.system
        task, slabs = system.panic_task, session.once(LeftOut).find()
        return {
            "release": system.release,
            "build_id": session.build_id,
            "vmlinux": str(session.vmlinux),
            "vmcore": str(session.vmcore),
            "format": session.dump.format,
            "kaslr_offset": hex16(session.kaslr_offset),
            "cpus": system.cpus,
            "cpus_stopped": list(system.stopped),
            "cpus_offline": list(system.offline),
            "nodename": system.nodename,
            "version": system.version,
            "date": system.date,
            "uptime": system.uptime,
            "registers": {str(cpu): origin for cpu, origin in system.registers.items()},
            "missing": asdict(session.dump.report),
            "slabs_left_out": None if slabs is None else asdict(slabs),
            "crashed": system.crashed,
            "panic": {
                "message": system.panic_message,
                "pid": task.pid,
                "comm": task.comm.decode("utf-8", "backslashreplace"),
                "cpu": system.panic_cpu,
                "task": hex16(task.addr),
            },
            "layout": dict(sorted(session.layout.chosen.items())),
        }


def summary(session: Session, system: System) -> Iterator[str]:
    """The banner of an open dump, in crash's words where they mean the same."""
    task = system.panic_task
    rows: list[tuple[str, Any]] = [
        *_files(session),
        ("CPUS", _cpus(system)),
        ("REGISTERS", _registers(system)),
        ("DATE", _date(system.date)),
        ("UPTIME", _duration(system.uptime)),
        ("NODENAME", system.nodename or "unknown"),
        ("RELEASE", system.release or "unknown"),
        ("VERSION", system.version or "unknown"),
        ("PANIC", _panic(system)),
        ("PID", task.pid),
        ("COMMAND", display_name(task)),
        ("TASK", hex16(task.addr)),
        ("CPU", system.panic_cpu),
        ("STATE", task.state),
    ]
    return pairs(rows)


def partial_summary(session: Session) -> Iterator[str]:
    """The banner of a dump that has lost the kernel's own data."""
    release = session.vmcoreinfo.get("OSRELEASE") or session.dump.release or "unknown"
    return pairs([*_files(session), ("RELEASE", release)])


def _files(session: Session) -> list[tuple[str, Any]]:
    missing, slabs = session.dump.report.sentence, session.once(LeftOut).find()
    return [
        ("KERNEL", session.vmlinux),
        ("BUILD-ID", session.build_id or "none"),
        ("DUMPFILE", ", ".join(file.path for file in session.dump.files)),
        ("FORMAT", session.dump.format),
        *([("MISSING", missing)] if missing else []),
        *([("LEFT OUT", f"slab pages, {slabs.missing} of {slabs.looked_at} looked at")] if slabs else []),
        ("KASLR OFFSET", f"{session.kaslr_offset:#x}"),
    ]


def _panic(system: System) -> str:
    if not system.crashed:
        logged = f"; its log has: {system.panic_message}" if system.panic_message else ""
        return f"none: the kernel was running when the dump was taken{logged}"
    return system.panic_message or "the kernel's message buffer does not say"


def _cpus(system: System) -> str:
    """How many there are, and how many of them were not online and why: "4 (3 stopped by panic)"."""
    gone = ((len(system.stopped), "stopped by panic"), (len(system.offline), "offline"))
    words = ", ".join(f"{count} {why}" for count, why in gone if count)
    return f"{system.cpus} ({words})" if words else str(system.cpus)


def _registers(system: System) -> str:
    """Which CPUs have registers, and from where: "crash_notes of 0, 1; none of 2"."""
    by_origin: dict[str, list[int]] = {}
    for cpu, origin in system.registers.items():
        by_origin.setdefault(origin, []).append(cpu)
    return "; ".join(
        f"{origin} of CPU {', '.join(map(str, cpus))}" if len(cpus) <= 8 else f"{origin} of {len(cpus)} CPUs"
        for origin, cpus in by_origin.items()
    )


def _date(seconds: int | None) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds)) if seconds else "unknown"
    except (OverflowError, ValueError, OSError):  # a damaged number
        return f"unknown ({seconds} s since 1970)"


def _duration(seconds: int | None) -> str:
    if seconds is None:
        return "unknown"
    days, rest = divmod(seconds, 86400)
    return (f"{days} days, " if days else "") + time.strftime("%H:%M:%S", time.gmtime(rest))
