"""Rows of unwind information: how one address's frame leads to its caller's, by ORC, DWARF or otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Cfa(Enum):
    """How a row's base register and offset lead to the CFA, the caller's stack pointer."""

    SUM = "register + offset"
    WORD = "the word at register + offset"
    WORD_SUM = "the word at register, + offset"


@dataclass(frozen=True)
class Context:
    """Registers that an interruption saved one after the other: members of struct pt_regs, the first one lowest."""

    members: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """How to get from one frame to its caller's; offsets are bytes.

    A register that is neither saved nor lost is the same in the caller, as far as the machine's calls keep it.
    """

    cfa_register: str = ""
    cfa_offset: int = 0
    cfa: Cfa = Cfa.SUM
    saved: Mapping[str, int] = field(default_factory=dict)
    """Where the caller's registers stand, counted from the CFA."""
    saved_elsewhere: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """The same, counted from what another register holds."""
    lost: frozenset[str] = frozenset()
    context: Context | None = None
    """What stands at the CFA where the caller was interrupted; nothing else is known of it then."""
    is_end: bool = False
    """There is no caller."""
    may_change_stack: bool = False
    """The caller's frame may lie on another stack, or below."""
    is_dwarf: bool = True
    """DWARF alone says the same, so that GDB finds the caller by itself."""


END_OF_STACK = Row(is_end=True, is_dwarf=False)
