"""What an address is, down to its owners."""

from __future__ import annotations

from enum import Enum

from gdb_kdump.records.record import record


class Kind(Enum):
    """What memory an address is of."""

    SYMBOL = "symbol"  # code or data of the kernel's image
    MODULE = "module"
    GENERATED = "generated code"  # BPF programs, trampolines
    PERCPU = "per-CPU"
    STACK = "stack"
    SLAB = "slab"
    PAGE = "page"  # in the direct map, and no slab's
    STRUCT_PAGE = "struct page"
    VMAP = "vmap"
    IMAGE = "image"  # in the kernel's image, but in no symbol
    USER = "user"
    NON_CANONICAL = "non-canonical"
    NOWHERE = "nowhere"  # an address of the kernel's that it maps nothing at, as far as is known


@record
class Link:
    """One step from an address to its owner.

    `what` is a word, mostly the tag of a struct; `addr` is where that begins, and `offset` where in it the step before
    points, in bytes; `text` names that place for people; `relation` leads to the next step (" of", ", files of").
    """

    what: str
    addr: int
    offset: int
    text: str
    relation: str = " of"


@record
class What:
    """An address: its `kind`, the `memory` that it lies in, from the inside out, and who leads there.

    Each of the `owners` is a chain: the object at the address, then what points to that, and so on to a root; `more`
    are so many chains that are left out.  `searched` says that having found none is worth saying: of code it is not.
    `physical` is its physical address, None where that is not known, `aliases` are other addresses of the same byte.
    """

    addr: int
    kind: Kind
    memory: tuple[Link, ...]
    owners: tuple[tuple[Link, ...], ...] = ()
    more: int = 0
    searched: bool = False
    physical: int | None = None
    aliases: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """All of it in one line."""
        place = chain_text(self.memory)
        if self.owners:
            first, *others = map(chain_text, self.owners)
            more = len(others) + self.more
            return f"{first}{f' (and {more} more)' if more else ''}; {place}"
        return f"{place}; nothing that was walked points to it" if self.searched else place

    @property
    def short(self) -> str:
        """The first owner, else the memory."""
        return chain_text(self.owners[0] if self.owners else self.memory)


def at(name: str, offset: int, rest: str = "") -> str:
    """A place in something, and what else there is to say of that."""
    return f"{name}{f'+{offset:#x}' if offset else ''}{rest}"


def chain_text(chain: tuple[Link, ...]) -> str:
    """A chain as one phrase."""
    words = "".join(f"{link.text}{link.relation} " for link in chain)
    return words[: -len(chain[-1].relation) - 1] if chain else ""
