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
