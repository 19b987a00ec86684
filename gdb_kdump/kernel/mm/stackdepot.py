"""The stack depot: stack traces that many objects share, each known by a handle; lib/stackdepot.c."""

from __future__ import annotations

from gdb_kdump.errors import Unreadable
from gdb_kdump.layout.members import find_path
from gdb_kdump.layout.table import STACK_POOLS
from gdb_kdump.session import Session

_ALIGN_SHIFT = 4  # lib/stackdepot.c: DEPOT_STACK_ALIGN, the same since v4.6
_MOST = 256  # entries


class StackDepot:
    """Reads the stack depot of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._layout = session.layout

    def find(self, handle: int) -> tuple[int, ...] | None:
        """The return addresses, innermost first, of a depot_stack_handle_t; None where there are none.

        lib/stackdepot.c: stack_depot_fetch.  Raises MissingDebugInfo.
        """
        parts = self._session.debuginfo.find_type("union handle_parts")
        find = self._session.debuginfo.find_address
        pools = next((addr for addr in map(find, STACK_POOLS) if addr is not None), None)
        if not handle or parts is None or pools is None:
            return None
        index, offset = self._part(parts, handle, "pool_index", "slabindex"), self._part(parts, handle, "offset")
        if index is None:
            # a6c1d9cb9a68 (v6.10) stackdepot: rename pool_index to pool_index_plus_1
            index = (self._part(parts, handle, "pool_index_plus_1") or 0) - 1
        if index < 0 or offset is None:
            return None
        try:
            record = self._memory.ptr(pools + 8 * index) + (offset << _ALIGN_SHIFT)
            size = self._session.number(record, "stack_record.size")
            if not 0 < size <= _MOST:
                return None
            entries = self._memory.read(record + self._layout.offset("stack_record.entries"), 8 * size)
        except Unreadable:
            return None
        return tuple(memoryview(entries).cast("Q").tolist())

    def _part(self, parts: object, handle: int, *names: str) -> int | None:
        member = next((part for part in (find_path(parts, name) for name in names) if part is not None), None)
        if member is None:
            return None
        return handle >> 8 * member.offset + member.bit_offset & (1 << member.bit_size) - 1
