"""What Python of your own imports: the things of the open dump, one after the other, as pointers of their types.

    from gdb_kdump import api

    for task in api.tasks():
        print(int(task["pid"]), task["comm"].string(errors="replace"))

Each function generates gdb.Values. Memory that is damaged or not in the dump ends no loop silently: when there may be
more, Incomplete is raised after the last value; a list given as `gaps` is filled with the reasons instead.
All raise UsageError where no dump is open, and MissingDebugInfo where the vmlinux lacks what is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import gdb

from gdb_kdump.debuginfo.objects import address_of
from gdb_kdump.errors import (
    Corrupt,
    DumpError,
    Incomplete,
    KdumpError,
    MissingDebugInfo,
    Unreadable,
    UsageError,
)
from gdb_kdump.kernel.lib.containers import walk_container
from gdb_kdump.kernel.mm.slub import SlubAllocator
from gdb_kdump.kernel.net.all_socks import AllSocks
from gdb_kdump.kernel.net.net_queues import net_queues
from gdb_kdump.kernel.net.skb_caches import SkbObjects
from gdb_kdump.kernel.net.sock import Socks
from gdb_kdump.kernel.sched.tasks import Tasks
from gdb_kdump.kernel.search import search as search_memory
from gdb_kdump.kernel.search_areas import kernel_memory, slabs
from gdb_kdump.layout.members import find_path
from gdb_kdump.records.elements import Break
from gdb_kdump.records.patterns import Pattern, Texts, Words
from gdb_kdump.records.search import summary
from gdb_kdump.session import Session, current
from gdb_kdump.walks import Gaps

__all__ = [
    "Corrupt",
    "DumpError",
    "Incomplete",
    "KdumpError",
    "MissingDebugInfo",
    "Unreadable",
    "UsageError",
    "search",
    "sk_buffs",
    "slab_objects",
    "socks",
    "tasks",
    "walk",
]

_TOP = (1 << 64) - 1


def tasks(gaps: list[str] | None = None) -> Iterator[gdb.Value]:
    """Every `struct task_struct *`: processes, their threads, and the CPUs' idle tasks."""
    session = current()
    return _typed(session, "task_struct", lambda notes: (task.addr for task in session.once(Tasks).all(notes)), gaps)


def socks(gaps: list[str] | None = None) -> Iterator[gdb.Value]:
    """Every `struct sock *` of the system, with and without a descriptor, in every network namespace."""
    session = current()
    return _typed(session, "sock", lambda notes: (one.sock.addr for one in session.once(AllSocks).all(notes)), gaps)


def sk_buffs(sock: gdb.Value | int | None = None, gaps: list[str] | None = None) -> Iterator[gdb.Value]:
    """Every `struct sk_buff *` on the queues of a `struct sock *`; without one every one of the system."""
    session = current()

    def found(notes: Gaps) -> Iterator[int]:
        if sock is not None:
            return _on_queues(session, int(sock) & _TOP)
        return iter(dict.fromkeys(_all_skbs(session, notes)))

    return _typed(session, "sk_buff", found, gaps)


def slab_objects(cache: str, struct: str = "", gaps: list[str] | None = None) -> Iterator[gdb.Value]:
    """Every allocated object of the slab cache of that name, as `struct STRUCT *`, else as `void *`.

    Raises UsageError where there is no such cache.
    """
    session = current()
    slabs = session.once(SlubAllocator)
    named = slabs.find_cache(cache)
    if named is None:
        raise UsageError(f"there is no slab cache {cache!r}; kslab -l lists them")
    return _typed(session, struct, lambda notes: slabs.for_each_object(named, notes), gaps)


def walk(
    kind: str, head: gdb.Value | int, member: str = "", backward: bool = False, gaps: list[str] | None = None
) -> Iterator[gdb.Value]:
    """Every element of a container, as what has its node at `member` ("STRUCT.MEMBER"), else as `void *`.

    `kind` is one of kwalk's; `head` the container or a pointer to it.  A number in an entry's place is passed over.
    """
    session = current()
    tag, _, path = member.partition(".")
    place = find_path(session.layout.struct(tag), path) if path else None
    if member and place is None:
        raise UsageError(f"{member!r} is no STRUCT.MEMBER")
    offset = place.offset if place is not None else 0

    def found(notes: Gaps) -> Iterator[int]:
        for step in walk_container(session, kind, _address(head), backward):
            if isinstance(step, Break):
                notes.note(str(step))
            elif step.value is None:
                yield step.addr - offset

    return _typed(session, tag, found, gaps)


def search(
    wanted: gdb.Value | int | str | bytes, mask: int = 0, size: int = 8, cache: str = "", gaps: list[str] | None = None
) -> Iterator[gdb.Value]:
    """Where in memory a word of `size` bytes (8, 4 or 2) or a string stands, as `void *` of the direct map.

    Bits in `mask` do not count; with `cache` only the objects of that slab cache are searched.  That pages were left
    out of the dump is one of the `gaps`.  Raises UsageError where there is no such cache.
    """
    session = current()
    if isinstance(wanted, (str, bytes)):
        text = wanted.encode() if isinstance(wanted, str) else wanted
        pattern: Pattern = Texts(((text, b"\xff" * len(text)),))
    else:
        value = int(wanted) & (1 << 8 * size) - 1 & ~mask
        pattern = Words(size, ((value, value),), mask)

    def found(notes: Gaps) -> Iterator[int]:
        areas = slabs(session, cache, notes) if cache else kernel_memory(session)
        searched = search_memory(session, pattern, areas, notes)
        notes.note(*(sentence for sentence, _ in summary(searched.unread)))
        return iter(searched.hits)

    return _typed(session, "", found, gaps)


def _typed(
    session: Session, struct: str, found: Callable[[Gaps], Iterator[int]], gaps: list[str] | None
) -> Iterator[gdb.Value]:
    target = session.layout.struct(struct) if struct else session.debuginfo.type("void")
    pointer, notes = target.pointer(), Gaps()
    for addr in found(notes):
        yield gdb.Value(addr & _TOP).cast(pointer)
    if gaps is not None:
        gaps += notes
    elif len(notes):
        raise Incomplete(list(notes))


def _on_queues(session: Session, sock: int) -> Iterator[int]:
    for queue in session.once(Socks).queues(sock):
        yield from queue.skbs


def _all_skbs(session: Session, notes: Gaps) -> Iterator[int]:
    for one in session.once(AllSocks).all(notes):
        try:
            yield from _on_queues(session, one.sock.addr)
        except Unreadable as error:
            notes.note(str(error))
    for queue in net_queues(session, notes):
        yield from queue.skbs
    yield from session.once(SkbObjects).all(notes)


def _address(head: gdb.Value | int) -> int:
    addr = head & _TOP if isinstance(head, int) else address_of(head)
    if addr is None:
        raise UsageError("the head has no address: give a pointer to it")
    return addr
