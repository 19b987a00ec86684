"""Whose an object is, as far as the data of modules tell: a driver has a pointer to what it has allocated."""

from __future__ import annotations

from gdb_kdump.errors import Corrupt, DumpError, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.module.modules import Modules
from gdb_kdump.kernel.search import search
from gdb_kdump.kernel.search_areas import Area
from gdb_kdump.records.patterns import Words
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps


def module_with_pointer_to(session: Session, start: int, size: int) -> str | None:
    """The only module in whose memory a pointer into some bytes stands.

    None where none has one or several have, and where that cannot be told, as not all of their memory can be read.
    """
    try:
        modules = session.once(Modules)
        gaps = Gaps()
        ranges = tuple(piece for module in modules.all(gaps) for piece in module.ranges)
        if not ranges:
            return None
        found = search(session, Words(8, ((start, start + size - 1),)), [Area(ranges)], gaps)
        if not found.complete or len(gaps):
            return None
        holders = {module.name for hit in found.hits if (module := modules.find(hit)) is not None}
    except (Unreadable, Corrupt, MissingDebugInfo, DumpError):  # the cause holds without it
        return None
    return holders.pop() if len(holders) == 1 else None
