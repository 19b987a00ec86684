"""Where an unwinder is, and how its way up a stack ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union


@dataclass(frozen=True)
class State:
    """The registers that are known in a frame, by GDB's names; made by the architecture, which knows what they mean."""

    registers: dict[str, int]
    interrupted: bool
    """Whether pc was interrupted; else it is a return address, which stands after its call."""
    pc: int
    sp: int
    in_user_mode: bool


class EndOfStack:
    """There is no caller: the stack ends where it should."""


@dataclass(frozen=True)
class Broken:
    """There may be a caller, but nothing leads to it; `why` is a sentence."""

    why: str


Caller = Union[State, EndOfStack, Broken]
"""What stands above a frame."""


class Stop(Exception):
    """The trace ends here, and why."""
