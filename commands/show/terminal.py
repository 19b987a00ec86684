"""What GDB's stdout is: a terminal of so many columns, with colours or without, or a pipe."""

from __future__ import annotations

import os

import gdb


def is_terminal() -> bool:
    """Whether GDB's stdout is a terminal; Python's own sys.stdout is GDB's, which says that it is none."""
    return os.isatty(1)


def columns() -> int | None:
    """How wide a line may be: None without a limit, as on a pipe, or with `set width 0`.

    It is one column less than the terminal has: GDB's pager takes a line that fills it for two.
    """
    width = int(gdb.parameter("width") or 0)
    return width - 1 if width > 1 and is_terminal() else None


def has_styles() -> bool:
    """Whether words may be coloured: by `set style enabled` and the environment's NO_COLOR and TERM."""
    if not is_terminal() or os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return False
    return bool(gdb.parameter("style enabled"))
