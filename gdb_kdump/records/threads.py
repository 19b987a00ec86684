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
    """What a sleeping thread left on its stack: `size` in bytes, behind which its rsp was, and register offsets.

    `fixed` are registers with the same value in every sleeping thread.
    The server reads it when GDB asks for the registers: opening a dump costs nothing per stack.
    """

    size: int
    offsets: dict[str, int]
    fixed: dict[str, int] = field(default_factory=dict)
