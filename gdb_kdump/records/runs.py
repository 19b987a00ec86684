"""What a stretch of memory is made of: bytes, and holes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from gdb_kdump.errors import Why

UNIT = 1 << 12
"""Bytes: a hole begins and ends at a multiple of it, as no machine has smaller pages."""


@dataclass(frozen=True)
class Hole:
    """`size` bytes that the dump cannot give, and why."""

    size: int
    why: Why


Run = Union[bytes, Hole]


def append(runs: list[Run], run: Run) -> None:
    """Add `run`, joined with the last one when both are bytes or both are holes of a kind."""
    last = runs[-1] if runs else None
    if isinstance(last, bytes) and isinstance(run, bytes):
        runs[-1] = last + run
    elif isinstance(last, Hole) and isinstance(run, Hole) and last.why is run.why:
        runs[-1] = Hole(last.size + run.size, run.why)
    else:
        runs.append(run)
