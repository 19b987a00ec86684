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
from gdb_kdump.diagnosis.causes.hung_task import hung_task
from gdb_kdump.diagnosis.causes.lengths import lengths
from gdb_kdump.diagnosis.causes.linkage import linkage
from gdb_kdump.diagnosis.causes.lockup import lockup
from gdb_kdump.diagnosis.causes.no_room import no_room
from gdb_kdump.diagnosis.causes.overrun import overrun
from gdb_kdump.diagnosis.causes.poison import poison
from gdb_kdump.diagnosis.causes.race import race
from gdb_kdump.diagnosis.causes.refcount import refcount
from gdb_kdump.diagnosis.causes.shared import shared
from gdb_kdump.diagnosis.causes.stack_overflow import stack_overflow
from gdb_kdump.diagnosis.causes.unknown import unknown
from gdb_kdump.diagnosis.causes.unrelated import unrelated
from gdb_kdump.diagnosis.causes.use_after_free import use_after_free
from gdb_kdump.diagnosis.causes.vmalloc_freed import vmalloc_freed

CAUSES: tuple[Callable[[Case], Cause | None], ...] = (
    no_room, stack_overflow, hung_task, shared, refcount, double_free, freelist, bad_call, linkage, lockup, poison,
    race, use_after_free, overrun, fragment, lengths, accounting, vmalloc_freed,
    unrelated, unknown,
)  # fmt: skip


def find_cause(case: Case) -> Cause | None:
    """The first cause that explains the trip, None where no rule here knows it."""
    return next((cause for explains in CAUSES if (cause := explains(case)) is not None), None)
