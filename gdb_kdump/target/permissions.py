"""GDB's own permissions: as long as a dump is open GDB says itself that nothing can be written, in clear words."""

from __future__ import annotations

import gdb

from gdb_kdump.debuginfo.gdb_settings import change

_WRITING = ("may-write-memory", "may-write-registers")

_withdrawn: list[str] = []


def withdraw() -> None:
    """Take GDB's permission to write; not where it also debugs a process: all inferiors share them."""
    if any(inferior.pid for inferior in gdb.inferiors()):
        return
    for permission in _WRITING:
        if gdb.parameter(permission):
            change(permission, False)
            _withdrawn.append(permission)


def restore() -> None:
    """Give back what withdraw() took; raises DumpError as long as another inferior has a process."""
    while _withdrawn:
        change(_withdrawn[-1], True)
        _withdrawn.pop()
