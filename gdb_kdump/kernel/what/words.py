"""Words of memory, and what each is the address of."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.errors import Unreadable, Why
from gdb_kdump.kernel.what.naming import Naming
from gdb_kdump.kernel.what.places import Places
from gdb_kdump.records.owners import Kind, What
from gdb_kdump.records.record import record
from gdb_kdump.session import Session
from gdb_kdump.text import is_kernel_address
from gdb_kdump.walks import Gaps

WORD = 8  # bytes
_TOP = 1 << 64
_SYMBOLS = (Kind.SYMBOL, Kind.MODULE, Kind.GENERATED)
_NOTHING = (Kind.NOWHERE, Kind.NON_CANONICAL, Kind.USER)


@record
class Word:
    """The word (u64) at an address, None where it cannot be read, and why; `what` is None for what is no address."""

    addr: int
    value: int | None
    why: Why | None = None
    what: What | None = None


def words(session: Session, addr: int, count: int, symbols_only: bool, gaps: Gaps) -> Iterator[Word]:
    """So many words from an address on, each named as what it is the address of; with `symbols_only` only symbols."""
    naming, places = session.once(Naming), session.once(Places)
    known: dict[int, What | None] = {}
    for at in range(addr, min(addr + count * WORD, _TOP), WORD):
        try:
            value = session.memory.u64(at)
        except Unreadable as error:
            yield Word(at, None, error.why)
            continue
        if value not in known:
            known[value] = None
            if is_kernel_address(value):
                place = places.of(value)
                if place.kind in _SYMBOLS and symbols_only:
                    known[value] = What(value, place.kind, place.links)
                elif place.kind not in _NOTHING and not symbols_only:
                    known[value] = naming.of(value, gaps)
        yield Word(at, value, None, known[value])
