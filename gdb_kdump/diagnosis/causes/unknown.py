"""unknown: the kernel or the CPU found something wrong, and no rule here knows why.

Asked last.  An sk_buff or a socket is in the frames, so it cannot be said that the panic is not about them.
"""

from __future__ import annotations

from gdb_kdump.diagnosis.causes.answer import CERTAIN, Case, Cause, Evidence
from gdb_kdump.diagnosis.causes.memory import first_real, function_name
from gdb_kdump.diagnosis.trip import find_culprit
from gdb_kdump.text import hex16


def unknown(case: Case) -> Cause | None:
    """What was found and where; the module function is named only where it is the one that fell."""
    trip = case.trip
    fault = first_real(trip.outward)
    if fault is None or case.unread or (case.skb is None and case.sock is None):
        return None  # where something is not in the dump, that is said
    where = function_name(fault.source)
    if trip.is_asserted:
        what = f"the kernel's check at {trip.place}, in {where}, has failed"
    elif trip.address is not None and "NULL pointer dereference" in trip.text:
        what = f"{where} used a NULL pointer (address {trip.address:#x})"
    elif trip.address is not None:
        what = f"{where} used an address that leads nowhere, {hex16(trip.address)}"
    else:
        return None
    culprit = find_culprit([fault], "the CPU fell in it")
    evidence = (Evidence("what the kernel says", "klog"), Evidence("the trace", "kbt"))
    return Cause("unknown", f"{what}; no rule here knows why", CERTAIN, evidence, None, "", culprit)
