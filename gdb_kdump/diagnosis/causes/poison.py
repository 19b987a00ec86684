"""poison: the CPU followed a pointer that is one of the kernel's poisons; include/linux/poison.h.

0x6b6b.. stands in memory that was freed, or that nobody has filled since it was handed out (with slub_debug), and
LIST_POISON in an entry that was taken off its list.  Looks like it and is not: list_del() finds LIST_POISON (linkage).
"""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.diagnosis.causes.answer import CERTAIN, LIKELY, Case, Cause, Evidence
from gdb_kdump.diagnosis.causes.memory import (
    REACH,
    fault_pointers,
    find_object,
    freer_of,
    name_of,
    tracks_told,
    words_of,
)
from gdb_kdump.diagnosis.trip import find_culprit
from gdb_kdump.records.slab import SlabObject
from gdb_kdump.text import hex16

_FILLS = {
    0x6B: "POISON_FREE, what slub_debug fills memory with that is free, or is handed out",
    0x5A: "POISON_INUSE, what slub_debug fills new slabs and padding with",
    0xA5: "POISON_END, the last byte of what slub_debug poisons",
    0xBB: "SLUB_RED_INACTIVE, what slub_debug writes around free objects",
    0xCC: "SLUB_RED_ACTIVE, what slub_debug writes around objects",
}
_FREED = 0x6B
_LIST_POISON = 0xDEAD000000000000
_LISTS = {0x100: "LIST_POISON1", 0x122: "LIST_POISON2"}


def poison(case: Case) -> Cause | None:
    """The address that the CPU could not reach is a poison, or a little more than one."""
    addr = case.trip.address
    if addr is None:
        return None
    fill = _fill(addr)
    if fill:
        return _of_slab(case, addr, fill)
    entry = next((name for low, name in _LISTS.items() if 0 <= addr - _LIST_POISON - low < 0x20), None)
    return _of_list(case, addr, entry) if entry is not None else None


def _fill(addr: int) -> int:
    """The byte that an address is made of, but for the offset of a member."""
    return next((fill for fill in _FILLS if -REACH < addr - int.from_bytes(bytes([fill]) * 8, "big") < REACH), 0)


def _of_slab(case: Case, addr: int, fill: int) -> Cause:
    pattern = int.from_bytes(bytes([fill]) * 8, "big")
    source = next(_that_hold(case, pattern), None)
    told = Evidence(f"the CPU could not reach {hex16(addr)}", "klog")
    culprit = find_culprit(case.trip.outward, "it, or what it called, used that memory")
    if source is None:
        message = f"a pointer that was used is {hex16(pattern)}: {_FILLS[fill]}"
        return Cause("poison", message, CERTAIN, (told,), culprit=culprit)
    register, found = source
    filled = f"{name_of(case, found)}, to which {register} points, is filled so"
    evidence = (Evidence(filled, f"kslab {hex16(found.start)}"), *reversed(tracks_told(case, found)), told)
    fell_in = case.trip.outward[0].source.module is not None if case.trip.outward else False
    if fill == _FREED and not fell_in:
        culprit = freer_of(case, found) or culprit
    used = "was used after it was freed" if found.state == "free" else "was used though nobody had filled it"
    message = f"{name_of(case, found)} {used}: a pointer from it is {hex16(pattern)}, {_FILLS[fill]}"
    return Cause("poison", message, CERTAIN, evidence, found.start, "", culprit)


def _of_list(case: Case, addr: int, name: str) -> Cause:
    evidence = [Evidence(f"the CPU could not reach {hex16(addr)}", "klog")]
    culprit = find_culprit(case.trip.outward, "it, or what it called, followed that link")
    for pointer, register in fault_pointers(case):
        found = find_object(case, pointer)
        for index, word in enumerate(words_of(case, found) if found is not None else ()):
            if found is not None and word - _LIST_POISON in _LISTS:
                at = found.start + 8 * index
                evidence.insert(
                    0,
                    Evidence(f"the entry in {name_of(case, found)}, to which {register} points", f"x/2xg {hex16(at)}"),
                )
                evidence += tracks_told(case, found)
                message = (
                    f"a list's entry at {hex16(at)} was used after it had been taken off its list: its link is "
                    f"{_LISTS[word - _LIST_POISON]}; it is in {name_of(case, found)}"
                )
                return Cause("poison", message, LIKELY, tuple(evidence), at, "", culprit)
    message = f"a list's link that was followed is {name}: its entry had been taken off a list before"
    return Cause("poison", message, CERTAIN, tuple(evidence), None, "", culprit)


def _that_hold(case: Case, pattern: int) -> Iterator[tuple[str, SlabObject]]:
    """The objects that the fault's registers point to and that hold the pattern, with the register."""
    for pointer, register in fault_pointers(case):
        found = find_object(case, pointer)
        if found is not None and pattern in words_of(case, found):
            yield register, found
