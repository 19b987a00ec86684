"""bad-call: a function pointer led to where no code is; the page fault is one of fetching an instruction."""

from __future__ import annotations

import re

from gdb_kdump.diagnosis.causes.answer import CERTAIN, LIKELY, Case, Cause, Evidence
from gdb_kdump.diagnosis.pointers import registers_in
from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.module.source import Source
from gdb_kdump.kernel.printk import Printk
from gdb_kdump.text import hex16

# include/net/sock.h: what a protocol or a module may put there.
_CALLBACKS = ("sk_data_ready", "sk_write_space", "sk_state_change", "sk_error_report", "sk_destruct", "sk_backlog_rcv")
_MAY_BE_NULL = ("sk_destruct", "sk_backlog_rcv")
_UNLOADED = re.compile(r"\[last unloaded: ([\w-]+)")


def bad_call(case: Case) -> Cause | None:
    """The program counter itself is no code."""
    pc = case.pc
    if not pc and "NULL pointer" not in case.trip.text:
        return None
    if case.session.once(Source).is_text(pc) or not ("instruction fetch" in case.trip.text or case.trip.address == pc):
        return None
    caller = case.trip.outward[0].source.function if case.trip.outward else None
    place = _callback(case)
    unloaded = _last_unloaded(case)
    gone = f"; module {unloaded} was unloaded before" if unloaded else ""
    who = f"{caller}() called" if caller else "it called"
    evidence = [Evidence(f"there is no code at {hex16(pc)}", f"info symbol {hex16(pc)}"), Evidence("the trace", "kbt")]
    nowhere = f"{hex16(pc)}, where no code is{gone}" if pc else "a pointer that is NULL"
    if place is None:
        return Cause("bad-call", f"{who} {nowhere}", CERTAIN, tuple(evidence))
    sock, member = place
    evidence.insert(0, Evidence(f"{member} is {hex16(pc)}", f"kstruct sock.{member} {hex16(sock)}"))
    leads = f"leads to {nowhere}" if pc else "is NULL, and was called"
    message = f"{member} of sock {hex16(sock)} {leads}"
    return Cause("bad-call", message, CERTAIN if unloaded else LIKELY, tuple(evidence), sock, member)


def _callback(case: Case) -> tuple[int, str] | None:
    """The sock, and which of its callbacks is the address that was called."""
    try:
        places = [(name, case.session.layout.offset(f"sock.{name}")) for name in _CALLBACKS]
    except MissingDebugInfo:
        return None
    typed = [case.sock.addr] if case.sock is not None else []
    values = [pointer.value for pointer in registers_in(case.trip.outward[:6], case.session.arch)]
    if not case.pc:
        # Anything holds zeros: only a socket by its type counts, and a callback that all of them have.
        values, places = [], [place for place in places if place[0] not in _MAY_BE_NULL]
    for addr in dict.fromkeys((*typed, *values)):
        for name, offset in places:
            try:
                if case.session.memory.u64(addr + offset) == case.pc:
                    return addr, name
            except Unreadable:
                break
    return None


def _last_unloaded(case: Case) -> str | None:
    """The module that the oops names as the last one unloaded; kernel/module/main.c: print_modules."""
    name = None
    try:
        for record in case.session.once(Printk).for_each():
            found = _UNLOADED.search(record.text.decode("utf-8", "backslashreplace"))
            name = found[1] if found else name
    except (Unreadable, Corrupt, MissingDebugInfo):
        pass
    return name
