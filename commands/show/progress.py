"""How far a search is: a line on a terminal, which is gone when the search has ended."""

from __future__ import annotations

import time

import gdb

from gdb_kdump.commands.show import terminal

_EVERY_SECONDS = 0.5


class SearchProgress:
    """Shows how far it is on GDB's stdout, where that is a terminal, unless it is `silent`."""

    def __init__(self, silent: bool) -> None:
        self._silent = silent or not terminal.is_terminal()
        self._next = time.monotonic() + _EVERY_SECONDS
        self._shown = 0

    def tell(self, gone_through: int, total: int, hits: int) -> None:
        """So many bytes of all have been gone through."""
        now = time.monotonic()
        if self._silent or now < self._next:
            return
        self._next = now + _EVERY_SECONDS
        line = f"searching: {100 * gone_through // max(total, 1)} %, {hits} hits"
        gdb.write("\r" + line.ljust(self._shown))
        gdb.flush()
        self._shown = len(line)

    def __enter__(self) -> SearchProgress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._shown:
            gdb.write("\r" + " " * self._shown + "\r")
            gdb.flush()
