"""linkage: a list whose links do not hold: the kernel's own check, or a queue that a CPU went round for ever."""

from __future__ import annotations

import re

from gdb_kdump.diagnosis.causes.answer import CERTAIN, LIKELY, Case, Cause, Evidence
from gdb_kdump.diagnosis.causes.memory import REACH
from gdb_kdump.diagnosis.trip import find_culprit
from gdb_kdump.errors import MissingDebugInfo, Unreadable
from gdb_kdump.text import hex16, is_kernel_address

# lib/list_debug.c: what __list_add_valid() and __list_del_entry_valid() say, in all its forms.
_SAYS = re.compile(r"(list_(?:add|del)) (?:corruption[.,]|double add:) ?(.*)")
_DOUBLE = re.compile(r"double add: new=([0-9a-f]+)")
_NODE = re.compile(r"\((?:prev|next)=([0-9a-f]+)\)|corruption, ([0-9a-f]+)->|double add: new=([0-9a-f]+)")
_LOCKUP = ("soft lockup", "softlockup", "hard LOCKUP", "self-detected stall")


def linkage(case: Case) -> Cause | None:
    """lib/list_debug.c names the entry; after a lockup a queue in the frames runs in a circle."""
    says = _SAYS.search(case.trip.text)
    if says is not None:
        node = _NODE.search(case.trip.text)
        at = int(node[1] or node[2] or node[3], 16) if node else None
        double = _DOUBLE.search(case.trip.text)
        what = (
            f"{hex16(int(double[1], 16))} is added to a list, and is on it already" if double else says[2].rstrip(".")
        )
        return Cause(
            "linkage",
            f"the links of a list do not hold: {what}",
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
    return _of_queue(case)


def _of_queue(case: Case) -> Cause | None:
    """A link of one of the socket's queues is the pointer that led nowhere.

    Trap: an sk_buff that was just being added has the head's old link already, and the head a new one.
    """
    addr, sock = case.trip.address, case.sock
    if addr is None or sock is None or addr < REACH:
        return None
    for queue in case.queues:
        if not queue.head or queue.kind != "list":
            continue
        links = {place: _links(case, place) for place in (queue.head, *queue.skbs)}
        known = {queue.head, *queue.skbs}
        wrong = [
            (place, member, link)
            for place, both in links.items()
            for member, link in both.items()
            if link not in known and not is_kernel_address(link)
        ]
        if not any(0 <= addr - link < REACH for _, _, link in wrong):
            continue
        told = ", ".join(f"{member} of {hex16(place)} is {hex16(link)}" for place, member, link in wrong[:2])
        evidence = (
            *(Evidence(f"{member} is {hex16(link)}", f"x/2xg {hex16(place)}") for place, member, link in wrong[:2]),
            Evidence("the queue as far as it goes", f"skbwalk {hex16(sock.addr)} --queue {queue.name}"),
            Evidence(f"the CPU could not reach {hex16(addr)}", "klog"),
        )
        message = f"the {queue.name} queue of sock {hex16(sock.addr)} was written over: {told}; by whom is not known"
        return Cause("linkage", message, CERTAIN, evidence, sock.addr, wrong[0][1])
    return None


def _links(case: Case, place: int) -> dict[str, int]:
    try:
        return {name: case.session.pointer(place, f"sk_buff_head.{name}") for name in ("next", "prev")}
    except (Unreadable, MissingDebugInfo):
        return {}
