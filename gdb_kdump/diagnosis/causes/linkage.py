"""linkage: a list whose links do not hold: the kernel's own check, or a queue that a CPU went round for ever."""

from __future__ import annotations

import re

from gdb_kdump.diagnosis.causes.answer import CERTAIN, LIKELY, Case, Cause, Evidence
from gdb_kdump.diagnosis.trip import find_culprit
from gdb_kdump.text import hex16

_SAYS = re.compile(r"(list_(?:add|del)) corruption\. ?(.*)")
_NODE = re.compile(r"\((?:prev|next)=([0-9a-f]+)\)|corruption, ([0-9a-f]+)->")
_LOCKUP = ("soft lockup", "softlockup", "hard LOCKUP", "self-detected stall")


def linkage(case: Case) -> Cause | None:
    """lib/list_debug.c names the entry; after a lockup a queue in the frames runs in a circle."""
    says = _SAYS.search(case.trip.text)
    if says is not None:
        node = _NODE.search(case.trip.text)
        at = int(node[1] or node[2], 16) if node else None
        return Cause(
            "linkage",
            f"the links of a list do not hold: {says[2].rstrip('.')}",
            CERTAIN,
            (Evidence(says[0], "klog"), *([Evidence("the entry", f"x/2xg {hex16(at)}")] if at else [])),
            at,
            "prev" if "prev" in says[2] else "next",
            find_culprit(case.trip.outward, f"it called {says[1]}() on that entry"),
        )
    if any(words in case.trip.text for words in _LOCKUP):
        for rule in ("queue.cycle", "queue.link"):
            finding = case.found(rule)
            if finding is not None and case.sock is not None:
                return Cause(
                    "linkage",
                    f"the CPU goes round a queue that never ends: {finding.message}",
                    CERTAIN if rule == "queue.cycle" else LIKELY,
                    (Evidence(finding.message, f"skbwalk {hex16(case.sock.addr)}"), Evidence("the trace", "kbt")),
                    finding.object,
                    finding.member,
                )
    return None
