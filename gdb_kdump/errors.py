"""The errors of gdb_kdump: one tree, each member a thing that the user can act on.

The Command base turns a KdumpError into one line for the user; any other exception is a bug and shows as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum


class Why(Enum):
    """Why an address could not be read from the dump."""

    FILTERED = "filtered"
    TRUNCATED = "truncated"
    UNMAPPED = "unmapped"
    CORRUPT = "corrupt"
    UNKNOWN = "unknown"

    @property
    def sentence(self) -> str:
        return _WHY_SENTENCES[self]


_WHY_SENTENCES = {
    Why.FILTERED: "the page was left out of the dump",  # by makedumpfile, or by whatever else has made it
    Why.TRUNCATED: "the page lies in the missing part of a truncated dump",
    Why.UNMAPPED: "the kernel's page tables do not map it",
    Why.CORRUPT: "the page's data in the dump file is damaged",
    Why.UNKNOWN: "libkdumpfile could not read it and did not say why",
}


def words_of(error: BaseException) -> str:
    """What an exception says, for the end of a sentence; its kind where it says nothing."""
    return str(getattr(error, "strerror", None) or error).strip() or type(error).__name__


class KdumpError(Exception):
    """Anything that the user, the dump or the debug information made impossible."""


class UsageError(KdumpError, ValueError):
    """The user's words cannot be understood; the message says what can."""


class DumpError(KdumpError, OSError):
    """Not a dump, a truncated one, an unknown format, or the dump server is gone."""

    # OSError would turn two arguments into (errno, strerror); a DumpError has one sentence.
    def __init__(self, message: str) -> None:
        super().__init__(message)

    def __str__(self) -> str:
        return str(self.args[0])


class NoVmlinux(DumpError):
    """No vmlinux was found for a dump; carries its kernel's release and build-id, None where it does not say them."""

    def __init__(self, message: str, release: str | None, build_id: str | None) -> None:
        super().__init__(message)
        self.release = release
        self.build_id = build_id


class MissingDebugInfo(KdumpError, LookupError):
    """The debug information lacks a symbol, type or member; carries the name and what was tried."""

    def __init__(self, name: str, tried: Sequence[str] = ()) -> None:
        self.name = name
        self.tried = tuple(tried)
        others = [candidate for candidate in self.tried if candidate != name]
        super().__init__(f"the debug information has no {name}" + (f" (tried: {', '.join(others)})" if others else ""))


class OtherAllocator(MissingDebugInfo):
    """The kernel allocates objects by something else than SLUB; carries its name, SLAB or SLOB."""

    def __init__(self, allocator: str) -> None:
        self.name, self.tried = "SLUB", ()
        KdumpError.__init__(self, f"the kernel's allocator is {allocator}: only SLUB's slabs can be shown")


class Unreadable(KdumpError):
    """An address that the dump cannot give, and why."""

    def __init__(self, addr: int, why: Why) -> None:
        self.addr = addr & (1 << 64) - 1  # a damaged pointer less an offset may be below zero
        self.why = why
        super().__init__(f"cannot read 0x{self.addr:016x}: {why.sentence} ({why.name})")

    def as_value(self) -> Unreadable:
        """The same for a record to keep: without the traceback, which keeps all that the frames had."""
        return Unreadable(self.addr, self.why)


class Interrupted(KdumpError):
    """The user has stopped a command, which has shown what it had by then, if anything."""

    def __init__(self, nothing: bool = False) -> None:
        super().__init__("stopped by Ctrl-C" + (" before it had anything" if nothing else ": what it shows is not all"))


class Incomplete(KdumpError):
    """Not all that was asked for could be read: what came before this was, and `reasons` say why there may be more."""

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__(f"there may be more: {'; '.join(reasons)}")


class Corrupt(KdumpError):
    """A structure so damaged that a walk cannot go on; carries the last good address."""

    def __init__(self, addr: int, what: str, last_good: int | None = None) -> None:
        self.addr = addr
        self.what = what
        self.last_good = last_good
        super().__init__(
            f"{what} at 0x{addr:016x}" + (f" (last good: 0x{last_good:016x})" if last_good is not None else "")
        )
