"""What a walk through a container of the kernel comes by: elements, and places where it does not hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Element:
    """One element: the address of its node, or in a tree of entries the entry.

    `first` and `last` are the indices (unsigned long) that an entry stands for, None where a container has none.
    `value` is the number that an entry holds in place of a pointer, whose address is then 0; include/linux/xarray.h:
    xa_is_value.
    """

    addr: int
    first: int | None = None
    last: int | None = None
    value: int | None = None


@dataclass(frozen=True)
class Break:
    """A place where a container does not hold, in a sentence, and the address of the last node before it that does.

    What follows it is no longer sure to be all.
    """

    sentence: str
    last_good: int | None

    def __str__(self) -> str:
        return self.sentence if self.last_good is None else f"{self.sentence} (last good: 0x{self.last_good:016x})"
