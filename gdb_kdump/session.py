"""One open dump: its server, memory and debug information.  Replaced as a whole when another dump is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from gdb_kdump.arch.architecture import Architecture
from gdb_kdump.channel.client import Server
from gdb_kdump.debuginfo.debuginfo import DebugInfo
from gdb_kdump.errors import DumpError, UsageError
from gdb_kdump.layout.layout import Layout
from gdb_kdump.layout.members import Member
from gdb_kdump.layout.unpacker import Unpacker
from gdb_kdump.memory import Memory
from gdb_kdump.records.dump_info import DumpInfo

T = TypeVar("T")


@dataclass(frozen=True)
class Session:
    """An open dump.

    `once(Reader)` gives the session's only instance of a reader class: what it has cached goes with the session.
    """

    vmcore: Path
    vmlinux: Path
    build_id: str | None
    kaslr_offset: int
    dump: DumpInfo
    vmcoreinfo: dict[str, str]
    server: Server
    memory: Memory
    debuginfo: DebugInfo
    arch: Architecture
    note: str = ""
    """What the user has to know of how it was opened."""
    _readers: dict[Any, Any] = field(default_factory=dict)
    _members: dict[tuple[Any, str], tuple[int, int, Any]] = field(default_factory=dict)

    @property
    def layout(self) -> Layout:
        return self.debuginfo.layout

    def once(self, reader: Callable[[Session], T]) -> T:
        """The session's only instance of `reader`, made from the session when it is first asked for."""
        if reader not in self._readers:
            self._readers[reader] = reader(self)
        return self._readers[reader]  # type: ignore[no-any-return]

    def number(self, addr: int, name: str) -> int:
        """What the logical member `STRUCT.MEMBER` of the struct at `addr` holds: a number, as wide as its type says.

        Raises Unreadable, MissingDebugInfo.
        """
        return self._value(addr, self.layout.number, name)

    def pointer(self, addr: int, name: str) -> int:
        """The same for a member that is a pointer."""
        return self._value(addr, self.layout.pointer, name)

    def _value(self, addr: int, find: Callable[[str], Member], name: str) -> int:
        known = self._members.get((find, name))
        if known is None:
            member = find(name)
            unpacker = Unpacker([replace(member, offset=0)], member.size)
            known = self._members[find, name] = member.offset, member.size, unpacker.unpack_from
        offset, size, unpack = known
        return int(unpack(self.memory.read(addr + offset, size))[0])

    def forget_walks(self, *but: Callable[[Session], Any]) -> None:
        """Forget all that was read, except by the readers `but`: some of it may be partial, or under another limit."""
        for reader in [known for known in self._readers if known not in but]:
            del self._readers[reader]
        self.memory.clear()

    def close(self) -> None:
        """End the server, and let go of what the session holds: readers refer to it and it to them."""
        self.server.close()
        self.forget_walks()
        self.debuginfo.close()


_current: Session | None = None  # GDB has one target at a time that is ours
# Tells the number of the inferior that has it, if another one is selected.
_elsewhere: Callable[[], int | None] | None = None


def current() -> Session:
    """The open dump; raises UsageError when the selected inferior has none, DumpError when its server has died."""
    if _current is None:
        raise UsageError("no dump is open; open one with: target kdump VMCORE [VMLINUX]")
    _current.server.check()
    inferior = _elsewhere() if _elsewhere else None
    if inferior is not None:
        raise UsageError(f"the open dump is that of inferior {inferior}, which is not selected: `inferior {inferior}`")
    return _current


def take_notices() -> list[str]:
    """What the open dump's server says without being asked, each sentence once; nothing when it is gone."""
    try:
        return _current.server.take_notices() if _current else []
    except DumpError:  # the next command says it
        return []


def find_current() -> Session | None:
    """The open dump, or None."""
    return _current


def set_current(session: Session | None, elsewhere: Callable[[], int | None] | None = None) -> None:
    """Make a session the open dump, or let there be none; for target/connection.py alone.

    `elsewhere` tells which inferior has it, where GDB has another one selected.
    """
    global _current, _elsewhere
    _current, _elsewhere = session, elsewhere
