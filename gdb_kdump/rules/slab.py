"""Invariants of SLUB: freelists, red zones and poison.

What one damaged freelist says is said of each object of its slab that is judged, always with the same object in it:
whoever judges many drops what comes again.
"""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.records.slab import COUNT, CYCLE, SHEAVED, TWICE, Guard, SlabObject, Zone
from gdb_kdump.rules.findings import CORRUPT, SUSPECT, Finding
from gdb_kdump.text import hex16

# What is told of damage there.
_REDZONES = {
    Zone.LEFT_REDZONE: "before",
    Zone.RIGHT_REDZONE: "behind",
    Zone.KMALLOC_REDZONE: "behind what was asked for of",
}
_POISONS = {
    Zone.POISON: "the free object was written to: its poison",
    Zone.END_POISON: "the free object was written to: its poison",
    Zone.PADDING: "the padding of the object",
    Zone.ALIGNMENT: "the padding of the object",
}
_SHOWN = 16  # bytes


def freelist(found: SlabObject) -> Iterator[Finding]:
    """Every link of a freelist is NULL or another object of the slab, and no object is on lists or in sheaves twice.

    Mirrors mm/slub.c: on_freelist, check_valid_pointer, check_slab (objects - inuse are free), set_freepointer's BUG_ON
    for double frees.  The finding's object is the free one that holds the bad link or, where links meet again, the one
    that was freed twice; at the head of a list it is the struct slab.  Traps: what a CPU's freelist holds counts as in
    use; a link that runs into a hole of the dump is not damaged; the counters are read while another CPU may have been
    stopped between them and the list, so a wrong count alone is suspect.
    """
    for problem in found.slab.problems:
        cache = found.cache.name
        if problem.kind == COUNT:
            message = f"{problem.sentence} ({cache})"
            expected, counted = f"{problem.expected} free objects", str(problem.found)
            yield Finding("slab.freelist", found.slab.addr, "freelist", SUSPECT, expected, counted, message)
            continue
        again = problem.kind in (CYCLE, TWICE, SHEAVED)
        blamed = problem.found if again else problem.object or found.slab.addr
        message = f"{problem.sentence} ({cache})" + (": it was freed twice" if again else "")
        expected = "NULL or another object of the slab"
        yield Finding("slab.freelist", blamed, "freelist", CORRUPT, expected, hex16(problem.found), message)


def redzone(found: SlabObject) -> Iterator[Finding]:
    """The bytes before and behind an object are 0xcc while it is allocated, and 0xbb while it is free.

    So are those that kmalloc() gave beyond what it was asked for.  Mirrors mm/slub.c: check_object.  Traps: only
    caches with SLAB_RED_ZONE have them; an object whose state is unknown has no expected byte; not every kernel that
    notes what kmalloc() was asked for makes a red zone of the rest.
    """
    for guard in found.guards:
        where = _REDZONES.get(guard.zone)
        if where is not None and guard.damaged_at is not None:
            yield _damaged("slab.redzone", found, guard, f"the red zone {where} the {found.state} object")


def poison(found: SlabObject) -> Iterator[Finding]:
    """A free object is 0x6b with 0xa5 at its end, and the padding behind an object's room is 0x5a.

    Mirrors mm/slub.c: check_object, check_pad_bytes.  Traps: caches with a constructor or SLAB_TYPESAFE_BY_RCU have no
    poison in their objects (__OBJECT_POISON); KASAN keeps its own data in the padding.
    """
    for guard in found.guards:
        what = _POISONS.get(guard.zone)
        if what is not None and guard.damaged_at is not None:
            yield _damaged("slab.poison", found, guard, what)


def _damaged(rule: str, found: SlabObject, guard: Guard, what: str) -> Finding:
    assert guard.damaged_at is not None
    text = guard.found[:_SHOWN].hex(" ") + (" ..." if len(guard.found) > _SHOWN else "")
    size = f"{len(guard.found)} byte" + ("s" if len(guard.found) != 1 else "")
    message = f"{what} is damaged from {hex16(guard.damaged_at)} on, over {size} ({found.cache.name})"
    return Finding(rule, found.start, guard.name, CORRUPT, f"0x{guard.expected:02x} throughout", text, message)


RULES = (freelist, redzone, poison)


def judge_slab(found: SlabObject) -> list[Finding]:
    """What is wrong with a slab object, its guards and the freelists of its slab."""
    return [finding for rule in RULES for finding in rule(found)]
