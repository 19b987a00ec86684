"""What a command came to, as a number: $_kstatus, and the exit status of a script that ends with `quit $_kstatus`."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

import gdb

_NAME = "_kstatus"


class Status(IntEnum):
    """The exit statuses, worst first but for FINE."""

    FINE = 0
    ERROR = 1
    CORRUPT = 2
    UNKNOWN = 3  # what matters is not in the dump


def set_status(status: Status) -> None:
    """Set $_kstatus."""
    gdb.set_convenience_variable(_NAME, int(status))


def status() -> Status:
    """What $_kstatus is; ERROR where it is something else, FINE where it is not set."""
    value = gdb.convenience_variable(_NAME)
    if value is None:
        return Status.FINE
    try:
        return Status(int(value))
    except (ValueError, gdb.error):
        return Status.ERROR


def worst(statuses: Iterable[Status]) -> Status:
    """Of several commands the worst."""
    return min((one for one in statuses if one is not Status.FINE), default=Status.FINE)
