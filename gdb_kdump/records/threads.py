"""Threads as GDB is to see them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Thread:
    """A thread as GDB shall see it."""

    id: int
    """Positive."""
    name: str
    core: int | None
    """The CPU that it runs on, or None."""
    registers: dict[str, int] | int
    """Those known, by GDB's names, or the address of the SavedFrame that has them; others are <unavailable>."""


@dataclass(frozen=True)
class SavedFrame:
    """What a sleeping thread left in memory; the server reads it when GDB asks: opening costs nothing per stack."""

    size: int
    """Bytes."""
    offsets: dict[str, int]
    """Where its registers stand."""
    fixed: dict[str, int] = field(default_factory=dict)
    """Registers with the same value in every sleeping thread."""
    relative: dict[str, int] = field(default_factory=dict)
    """Registers that hold an address, as an offset from the frame's."""
