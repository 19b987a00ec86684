"""Every queue of sk_buffs that is no socket's: of CPUs, network devices, qdiscs, neighbours, and of IP fragments."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.net.backlogs import Backlogs
from gdb_kdump.kernel.net.fragments import Fragments
from gdb_kdump.kernel.net.neighbours import Neighbours
from gdb_kdump.kernel.net.qdiscs import Qdiscs
from gdb_kdump.records.queue import Queue
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps


def net_queues(session: Session, gaps: Gaps) -> Iterator[Queue]:
    """Each of them, walked whole; what cannot be followed goes to `gaps`."""
    subjects: tuple[tuple[str, Callable[[], Iterator[Queue]]], ...] = (
        ("the CPUs' backlogs", lambda: session.once(Backlogs).of_cpus()),
        ("GRO", lambda: session.once(Backlogs).of_devices(gaps)),
        ("qdiscs", lambda: session.once(Qdiscs).queues(gaps)),
        ("neighbours", lambda: session.once(Neighbours).queues(gaps)),
        ("IP fragments", lambda: session.once(Fragments).queues(gaps)),
    )
    for name, queues in subjects:
        try:
            yield from queues()
        except (Unreadable, MissingDebugInfo, Corrupt) as error:
            gaps.note(f"{name}: {error}")
