"""klog: the kernel's message buffer, as dmesg would print it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gdb_kdump import walks
from gdb_kdump.commands.arguments import Arguments, Option
from gdb_kdump.commands.base import Command
from gdb_kdump.errors import UsageError
from gdb_kdump.kernel.printk import Printk, Record
from gdb_kdump.kernel.timekeeping import wall_clock_offset
from gdb_kdump.session import Session
from gdb_kdump.text import escape
from gdb_kdump.walks import Gaps, walk


@dataclass(frozen=True)
class Log:
    """The messages, and what to add to a time for the wall clock (ns)."""

    records: tuple[Record, ...]
    offset: int | None
    wall_clock: bool


class Klog(Command[Log]):
    name = "klog"
    summary = """Print the kernel's message buffer, oldest message first, as dmesg would.
Control characters are escaped."""
    gap_words = "the buffer ends early"
    options = (Option("-T", "wall-clock times (UTC) in place of seconds since boot"),)

    def read(self, session: Session, arguments: Arguments, gaps: Gaps) -> Log:
        if arguments.operands:
            raise UsageError("klog takes no operands")
        records: list[Record] = []
        messages = session.once(Printk).for_each()  # without its beginning there is no buffer at all
        with walk("the messages", gaps) as steps:
            for record in steps(messages):
                records.append(record)
        offset, wall_clock = wall_clock_offset(session), arguments.has("-T")
        if wall_clock and offset is None:
            raise UsageError("the dump's timekeeper cannot be read, so there are no wall-clock times; leave -T out")
        return Log(tuple(records), offset, wall_clock)

    def text(self, result: Log) -> Iterator[str]:
        for record in walks.shown(result.records):
            stamp = f"[{_stamp(record, result)}] "
            first, *rest = record.text.decode("utf-8", "backslashreplace").split("\n")
            yield stamp + escape(first.replace("\t", " "))
            yield from (" " * len(stamp) + escape(line.replace("\t", " ")) for line in rest)

    def json(self, result: Log) -> Any:
        return {
            "records": [
                {
                    "seq": record.seq,
                    "ts_nsec": record.ts_nsec,
                    "time": (record.ts_nsec + result.offset) / 1e9 if result.offset is not None else None,
                    "level": record.level,
                    "text": record.text.decode("utf-8", "backslashreplace"),
                }
                for record in walks.shown(result.records)
            ],
        }

    def gaps_json(self, gaps: list[str]) -> dict[str, Any]:
        return {"cut_short": "; ".join(gaps) or None}


def _stamp(record: Record, log: Log) -> str:
    if not log.wall_clock:
        return f"{record.ts_nsec // 10**9:5}.{record.ts_nsec % 10**9 // 1000:06}"
    nanoseconds = record.ts_nsec + (log.offset or 0)
    try:
        moment = time.gmtime(nanoseconds // 10**9)
    except (OverflowError, ValueError, OSError):  # a damaged time
        return f"{nanoseconds} ns"
    return time.strftime("%Y-%m-%d %H:%M:%S", moment) + f".{nanoseconds % 10**9 // 1000:06}"
