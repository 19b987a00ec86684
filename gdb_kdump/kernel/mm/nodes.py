"""The nodes of memory."""

from __future__ import annotations

from gdb_kdump.session import Session

_MAX_NODES = 1024  # include/linux/numa.h: NODES_SHIFT is at most 10


def nr_node_ids(session: Session) -> int:
    """How many nodes there can be, 1 where the kernel has no NUMA; include/linux/nodemask.h.  Raises Unreadable."""
    counted = session.debuginfo.find_address("nr_node_ids")
    return min(session.memory.u32(counted), _MAX_NODES) if counted is not None else 1
