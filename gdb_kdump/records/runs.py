"""What a stretch of memory is made of: bytes, and holes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from gdb_kdump.errors import Why


@dataclass(frozen=True)
class Hole:
    """`size` bytes that the dump cannot give, and why."""

    size: int
    why: Why


Run = Union[bytes, Hole]
