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
_OOPS = re.compile(
    r"BUG: |kernel BUG at |Oops: |general protection fault|divide error: |double fault: |[Uu]nable to handle"
)
_WARNING = re.compile(r"WARNING: ")
_PANIC = re.compile(r"Kernel panic - not syncing")
_ENDS = re.compile(r"(Hardware name|Modules linked in|CPU: \d+ (UID: \d+ )?PID: |RIP: |Call Trace)")
# What the kernel says before it cuts; net/core/skbuff.c, lib/list_debug.c, lib/refcount.c, net/core/dev.c.
_BEFORE = re.compile(
    r"skb_(over|under)_panic: |list_(add|del) corruption|refcount_t: |offset \(\d+\) >= skb_headlen|usercopy: "
    r"|kernel tried to execute|invalid inflight"
)
_NEAR_NS = 100_000_000
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
    """A function of a module that is to blame, as far as the frames tell, and why; `level` is its frame's."""

    function: str
    module: str
    level: int | None
    why: str


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
    start = first
    for number in range(first - 1, max(-1, first - _MOST_LINES), -1):
        text = _text(records[number])
        if records[first].ts_nsec - records[number].ts_nsec > _NEAR_NS or not (_BEFORE.search(text) or text == _CUT):
            break
        start = number
    lines: list[str] = []
    for record in records[start : start + 2 * _MOST_LINES]:
        for line in _text(record).split("\n"):
            if _ENDS.match(line) and lines:
                return tuple(lines[:_MOST_LINES])
            if line and line != _CUT:
                lines.append(line)
    return tuple(lines[:_MOST_LINES])


def _first(records: Sequence[Record]) -> int | None:
    """The record that the trip begins with: of an oops, else of the warning that was made a panic, else of the panic.

    Warnings before an oops are of what went wrong earlier.
    """
    oops, warning, panic = None, None, None
    for number, record in enumerate(records):
        text = _text(record)
        if _OOPS.search(text):
            oops = number if oops is None else oops
        elif _WARNING.search(text):
            warning = number if panic is None else warning
        elif _PANIC.search(text):
            panic = number if panic is None else panic
    if oops is not None:
        return oops
    was_made_one = panic is not None and "panic_on_warn" in _text(records[panic])
    return warning if was_made_one and warning is not None else panic


def _text(record: Record) -> str:
    return record.text.decode("utf-8", "backslashreplace")


def find_culprit(frames: Sequence[Frame], why: str) -> Culprit | None:
    """The first module function outward; None where no module is among the frames."""
    for frame in frames:
        source = frame.source
        if source.module is not None and source.function is not None:
            return Culprit(source.function, source.module, frame.level, why)
    return None
