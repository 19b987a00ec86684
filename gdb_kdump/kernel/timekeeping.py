"""How long the system was up, and the wall clock of its message buffer; kernel/time/timekeeping.c."""

from __future__ import annotations

from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.layout.table import TIMEKEEPER
from gdb_kdump.session import Session

_U64 = (1 << 64) - 1


def uptime(session: Session) -> int | None:
    """Seconds since boot without suspend; kernel/time/timekeeping.c: ktime_get_seconds."""
    noted = _timekeeper(session, "ktime_sec")
    if noted is not None:
        return noted
    # Kernels before v3.19 do not keep it.
    wall, offset = _timekeeper(session, "xtime_sec"), _timekeeper(session, "monotonic_sec")
    return _uptime_by_xtime(session) if wall is None or offset is None else (wall + offset) & _U64


def _uptime_by_xtime(session: Session) -> int | None:
    """The same where xtime and wall_to_monotonic are variables of their own; getboottime before v3.4."""
    find, layout = session.debuginfo.find_address, session.layout
    wall, offset = find("xtime"), find("wall_to_monotonic")
    if wall is None or offset is None or layout.find_struct("timespec") is None:
        return None
    try:
        seconds = layout.offset("timespec.tv_sec")
        return session.memory.s64(wall + seconds) + session.memory.s64(offset + seconds)
    except Unreadable:
        return None


def wall_clock_offset(session: Session) -> int | None:
    """Nanoseconds from the clock of the message buffer to the time since 1970, or None; ktime_mono_to_real."""
    return _timekeeper(session, "offs_real")


def _timekeeper(session: Session, member: str) -> int | None:
    try:
        offset, keeper = session.layout.offset(f"timekeeper.{member}"), _find_timekeeper(session)
        return session.memory.u64(keeper + offset) if keeper is not None else None
    except (Unreadable, MissingDebugInfo):
        return None


def _find_timekeeper(session: Session) -> int | None:
    """The address of the kernel's struct timekeeper, or None."""
    find = session.debuginfo.find_variable
    return next((addr for place in TIMEKEEPER if (addr := find(*place, tag="tk_data")) is not None), None)
