"""refcount: a counter of references went below what it may be; lib/refcount.c: refcount_warn_saturate."""

from __future__ import annotations

import re

from gdb_kdump.diagnosis.causes.answer import CERTAIN, LIKELY, Case, Cause, Evidence
from gdb_kdump.diagnosis.trip import find_culprit
from gdb_kdump.text import hex16

_SAYS = re.compile(r"refcount_t: (.*?)\.?$", re.MULTILINE)
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
    return Cause(
        "refcount",
        f"a reference counter is wrong: {what}",
        CERTAIN if says else LIKELY,
        tuple(evidence),
        sock.addr if sock is not None and says is None else None,
        "sk_refcnt" if says is None else "",
        find_culprit(trip.outward, "it dropped or took the reference"),
    )
