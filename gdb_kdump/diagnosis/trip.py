"""What the CPU or the kernel objected to: where, in the kernel's own words, and whose function led there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.printk import Printk, Record
from gdb_kdump.kernel.stack.unwind import Frame, Trace
from gdb_kdump.session import Session

_CUT = "------------[ cut here ]------------"
# Those after "BUG: " that a kernel survives.
_SURVIVED = (
    "Bad page|Bad rss|sleeping function|scheduling while atomic|workqueue lockup|using __this_cpu|workqueue leaked"
)
_OOPS = re.compile(
    rf"BUG: (?!{_SURVIVED})|kernel BUG at |Oops: |general protection fault|divide error: |double fault: "
    r"|[Uu]nable to handle"
)
_WARNING = re.compile(r"WARNING: ")
_PANIC = re.compile(r"Kernel panic - not syncing")
_ENDS = re.compile(r"(Hardware name|Modules linked in|CPU: \d+ (UID: \d+ )?PID: |RIP: |Call Trace)")
# What the kernel says before it cuts; net/core/skbuff.c, lib/list_debug.c, lib/refcount.c, net/core/dev.c.
_BEFORE = re.compile(
    r"skb_(over|under)_panic: |list_(add|del) (corruption|double add)|refcount_t: |offset \(\d+\) >= skb_headlen"
    r"|usercopy: |kernel tried to execute|invalid inflight"
)
# What says why a panic of the kernel's own watchdogs and checks comes; a trace of others may stand between the two.
_WATCHDOGS = re.compile(r"INFO: task .* blocked for more than|rcu: INFO: .*stall|hard LOCKUP")
_WATCHED_NS = 30_000_000_000
_WATCHED_LINES = 4
_NEAR_NS = 100_000_000
_SAME_NS = 1_000_000_000  # within which an oops prints its first lines, and other CPUs fall, too
_MOST_LINES = 8
_ADDRESS = re.compile(r"address:? (?:0x)?([0-9a-f]{8,16})\b")
_PLACE = re.compile(r"(?:kernel BUG at|WARNING: .* at) (\S+:\d+)")


@dataclass(frozen=True)
class Trip:
    """`says` are the kernel's own lines; `fault` the real frame at the fault, `outward` the frames from there on.

    `address` is the memory that the CPU could not reach, as the kernel printed it; `place` the FILE:LINE that a BUG or
    WARN names.
    """

    says: tuple[str, ...]
    fault: Frame | None
    outward: tuple[Frame, ...]
    address: int | None = None
    place: str = ""

    @property
    def text(self) -> str:
        return "\n".join(self.says)

    @property
    def is_asserted(self) -> bool:
        """Whether the kernel itself found something wrong (BUG, WARN), and not the CPU."""
        return bool(self.place)

    def passes(self, *functions: str) -> bool:
        """Whether one of these functions is among the frames from the fault on."""
        return any(frame.source.function in functions for frame in self.outward)


@dataclass(frozen=True)
class Culprit:
    """A function of a module that is to blame, as far as the frames tell, and why; `level` is its frame's.

    `found` says where it was found, when that is not on the way to the trip; without a level it is not in that trace.
    """

    function: str
    module: str
    level: int | None
    why: str
    found: str = ""


def trip_of(session: Session, trace: Trace, fault: Frame | None) -> Trip:
    """The trip of the panic task; its lines are missing where the message buffer cannot be read."""
    says = kernel_says(session)
    text = "\n".join(says)
    address, place = _ADDRESS.search(text), _PLACE.search(text)
    at = next((n for n, frame in enumerate(trace.frames) if frame is fault), None)
    # Frames that are inlined at the fault come before the real one.
    while at is not None and at > 0 and trace.frames[at - 1].source.inlined:
        at -= 1
    outward = trace.frames[at:] if at is not None else ()
    return Trip(says, fault, tuple(outward), int(address[1], 16) if address else None, place[1] if place else "")


def kernel_says(session: Session) -> tuple[str, ...]:
    """The lines of the message buffer that say why the kernel went down, without registers and trace."""
    records: list[Record] = []
    try:
        for record in session.once(Printk).for_each():
            records.append(record)
    except (MissingDebugInfo, Unreadable, Corrupt):
        pass  # what was found until there still holds
    first = _first(records)
    if first is None:
        return ()
    lines = _watchdog_lines(records, first) if _PANIC.search(_text(records[first])) else []
    for record in records[_start(records, first) : first + 2 * _MOST_LINES]:
        for line in _text(record).split("\n"):
            if _ENDS.match(line) and lines:
                return tuple(lines[:_MOST_LINES])
            if line and line != _CUT:
                lines.append(line)
    return tuple(lines[:_MOST_LINES])


def _start(records: Sequence[Record], first: int) -> int:
    """The record of the first line that belongs to the trip.

    What a WARN() says stands after "cut here", what comes before a BUG() before that.
    """
    start = first
    cut = next(
        (number for number in range(first, max(-1, first - _MOST_LINES), -1) if _text(records[number]) == _CUT), None
    )
    for number in range(first - 1, max(-1, first - _MOST_LINES), -1):
        if records[first].ts_nsec - records[number].ts_nsec > _NEAR_NS:
            break
        if (cut is not None and number >= cut) or _BEFORE.search(_text(records[number])):
            start = number
        else:
            break
    return start


def _watchdog_lines(records: Sequence[Record], panic: int) -> list[str]:
    """What a watchdog, or a check that is no oops, said before it had the kernel panic, and the lines that go on."""
    for number in range(panic - 1, -1, -1):
        if records[panic].ts_nsec - records[number].ts_nsec > _WATCHED_NS:
            break
        if _WATCHDOGS.search(_text(records[number])):
            lines: list[str] = []
            for record in records[number : min(panic, number + _WATCHED_LINES)]:
                text = _text(record)
                if lines and _ENDS.match(text):
                    break
                lines.append(text.rstrip())
            return lines
    return []


def _first(records: Sequence[Record]) -> int | None:
    """The record that the trip begins with: of an oops, else of the warning that was made a panic, else of the panic.

    Warnings before an oops are of what went wrong earlier, and so are oopses that the kernel went on after.
    """
    oops, warning, panic = None, None, None
    for number, record in enumerate(records):
        text = _text(record)
        if _OOPS.search(text):
            is_same = oops is not None and records[number].ts_nsec - records[oops].ts_nsec < _SAME_NS
            oops = oops if is_same or panic is not None else number
        elif _WARNING.search(text):
            warning = number if panic is None else warning
        elif _PANIC.search(text):
            panic = number if panic is None else panic
    if oops is not None and not _is_older(records, oops, panic):
        return oops
    was_made_one = panic is not None and "panic_on_warn" in _text(records[panic])
    return warning if was_made_one and warning is not None else panic


def _is_older(records: Sequence[Record], oops: int, panic: int | None) -> bool:
    """Whether the kernel had survived an oops when it panicked about something else."""
    if panic is None or "Fatal exception" in _text(records[panic]):
        return False
    return records[panic].ts_nsec - records[oops].ts_nsec > _WATCHED_NS


def _text(record: Record) -> str:
    return record.text.decode("utf-8", "backslashreplace")


def find_culprit(frames: Sequence[Frame], why: str, found: str = "") -> Culprit | None:
    """The first module function outward; None where no module is among the frames."""
    for frame in frames:
        source = frame.source
        if source.module is not None and source.function is not None:
            return Culprit(source.function, source.module, frame.level, why, found)
    return None
