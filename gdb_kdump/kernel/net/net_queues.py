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


def net_queues(session: Session, problems: list[str]) -> Iterator[Queue]:
    """Each of them, walked whole; what cannot be followed goes to `problems`, a sentence each."""
    subjects: tuple[tuple[str, Callable[[], Iterator[Queue]]], ...] = (
        ("the CPUs' backlogs", lambda: session.once(Backlogs).of_cpus()),
        ("GRO", lambda: session.once(Backlogs).of_devices(problems)),
        ("qdiscs", lambda: session.once(Qdiscs).queues(problems)),
        ("neighbours", lambda: session.once(Neighbours).queues(problems)),
        ("IP fragments", lambda: session.once(Fragments).queues(problems)),
    )
    for name, queues in subjects:
        try:
            yield from queues()
        except (Unreadable, MissingDebugInfo, Corrupt) as error:
            problems.append(f"{name}: {error}")
