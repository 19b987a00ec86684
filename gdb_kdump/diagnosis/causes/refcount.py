"""refcount: a counter of references went below what it may be; lib/refcount.c: refcount_warn_saturate."""

from __future__ import annotations

import re

from gdb_kdump.diagnosis.causes.answer import CERTAIN, LIKELY, Case, Cause, Evidence
from gdb_kdump.diagnosis.causes.memory import find_object, name_of, words_of
from gdb_kdump.diagnosis.pointers import registers_in
from gdb_kdump.diagnosis.trip import find_culprit
from gdb_kdump.text import hex16

_SAYS = re.compile(r"refcount_t: (.*?)\.?$", re.MULTILINE)
_SATURATED = 0xC0000000  # include/linux/refcount.h: REFCOUNT_SATURATED, INT_MIN / 2
_INNERMOST = 6  # frames, with those that are inlined
_SOCK_PUT = "include/net/sock.h"  # __sock_put: WARN_ON(refcount_dec_and_test(&sk->sk_refcnt))


def refcount(case: Case) -> Cause | None:
    """The kernel's own line, or its check that the last reference to a socket is not dropped in passing."""
    trip = case.trip
    says = _SAYS.search(trip.text)
    if says is None and not (trip.is_asserted and trip.place.startswith(_SOCK_PUT)):
        return None
    what = says[1] if says else "a reference to a socket was dropped that was the last, though others were still due"
    sock = case.sock
    evidence = [Evidence(f"the kernel found it at {trip.place}", "klog")]
    if sock is not None:
        evidence.append(Evidence("the socket's counter", f"kstruct sock.__sk_common.skc_refcnt {hex16(sock.addr)}"))
    at = sock.addr if sock is not None and says is None else None
    counter = _saturated(case) if says else None
    if counter is not None:
        at, owner = counter
        evidence.append(Evidence(f"a saturated counter in {owner}", f"x/1xw {hex16(at)}"))
        evidence.append(Evidence("what it belongs to", f"kwhat {hex16(at)}"))
        what = f"{what}; it is at {hex16(at)} in {owner}"
    return Cause(
        "refcount",
        f"a reference counter is wrong: {what}",
        CERTAIN if says else LIKELY,
        tuple(evidence),
        at,
        "sk_refcnt" if says is None else "",
        find_culprit(trip.outward, "it dropped or took the reference"),
    )


def _saturated(case: Case) -> tuple[int, str] | None:
    """The counter that refcount_warn_saturate() has set to REFCOUNT_SATURATED, and its object.

    It is looked for in the objects to which the registers of the innermost frames point; None where there are several.
    """
    found: dict[int, str] = {}
    for pointer in registers_in(case.trip.outward[:_INNERMOST], case.session.arch):
        entry = find_object(case, pointer.value)
        for index, word in enumerate(words_of(case, entry) if entry is not None else ()):
            for half in (0, 1):
                if entry is not None and word >> 32 * half & 0xFFFFFFFF == _SATURATED:
                    found[entry.start + 8 * index + 4 * half] = name_of(case, entry)
    return next(iter(found.items())) if len(found) == 1 else None
