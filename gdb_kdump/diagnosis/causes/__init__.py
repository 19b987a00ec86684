"""Causes: one file each, in the order in which they are asked; the first that explains the trip is the cause.

A cause says what it predicts, looks, and answers.  What only fits without explaining the trip is no answer.
"""

from __future__ import annotations

from collections.abc import Callable

from gdb_kdump.diagnosis.causes.accounting import accounting
from gdb_kdump.diagnosis.causes.answer import Case, Cause
from gdb_kdump.diagnosis.causes.bad_call import bad_call
from gdb_kdump.diagnosis.causes.double_free import double_free
from gdb_kdump.diagnosis.causes.fragment import fragment
from gdb_kdump.diagnosis.causes.freelist import freelist
from gdb_kdump.diagnosis.causes.lengths import lengths
from gdb_kdump.diagnosis.causes.linkage import linkage
from gdb_kdump.diagnosis.causes.no_room import no_room
from gdb_kdump.diagnosis.causes.overrun import overrun
from gdb_kdump.diagnosis.causes.refcount import refcount
from gdb_kdump.diagnosis.causes.shared import shared
from gdb_kdump.diagnosis.causes.unrelated import unrelated

CAUSES: tuple[Callable[[Case], Cause | None], ...] = (
    no_room, shared, refcount, double_free, freelist, bad_call, linkage, overrun, fragment, lengths, accounting,
    unrelated,
)  # fmt: skip


def find_cause(case: Case) -> Cause | None:
    """The first cause that explains the trip, None where no rule here knows it."""
    return next((cause for explains in CAUSES if (cause := explains(case)) is not None), None)
