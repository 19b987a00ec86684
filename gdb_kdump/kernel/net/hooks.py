"""Every function that was hung into the network stack from outside of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.net.netfilter import Netfilter
from gdb_kdump.kernel.net.packet_handlers import PacketHandlers
from gdb_kdump.kernel.net.programs import Programs
from gdb_kdump.kernel.net.protocols import Protocols
from gdb_kdump.kernel.net.tc_filters import TcFilters
from gdb_kdump.records.code import Hook
from gdb_kdump.session import Session
from gdb_kdump.walks import Gaps


def hooks(session: Session, gaps: Gaps) -> Iterator[Hook]:
    """Each of them; what cannot be read goes to `gaps`."""
    yield from path_hooks(session, gaps)
    yield from _each((("protocols", lambda: session.once(Protocols).all(gaps)),), gaps)


def path_hooks(session: Session, gaps: Gaps) -> Iterator[Hook]:
    """Those that a packet passes on its way, and kinds of actions: all but protocols."""
    yield from _each(
        (
            ("netfilter hooks", lambda: session.once(Netfilter).all(gaps)),
            ("BPF programs", lambda: session.once(Programs).all(gaps)),
            ("filters and actions", lambda: session.once(TcFilters).all(gaps)),
            ("receivers of packets", lambda: session.once(PacketHandlers).all(gaps)),
        ),
        gaps,
    )


def _each(subjects: tuple[tuple[str, Callable[[], Iterator[Hook]]], ...], gaps: Gaps) -> Iterator[Hook]:
    for name, found in subjects:
        try:
            yield from found()
        except (Unreadable, MissingDebugInfo, Corrupt) as error:
            gaps.note(f"{name}: {error}")
