"""Threads as GDB is to see them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Thread:
    """A thread as GDB shall see it.

    `id` is positive; `core` is the CPU it runs on, or None; `registers` holds those known, by GDB's names (`rip`,
    `eflags`, `fs_base`), or is the address of the SavedFrame that has them; the others are <unavailable>.
    """

    id: int
    name: str
    core: int | None
    registers: dict[str, int] | int


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
