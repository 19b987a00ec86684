"""What the user is told while a vmlinux makes them wait."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Progress(Protocol):
    """Shows it: the commands do that."""

    def indexing(self, vmlinux: Path, seconds: float | None, /) -> None:
        """The seconds that the index of a vmlinux has taken so far, or None when there can be no index."""

    def unpacking(self, packed: Path, copy: Path, size: int | None, /) -> None:
        """A packed vmlinux is being unpacked into a file; its size in bytes, when it is whole."""
