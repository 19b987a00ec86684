"""The slab rules alone: a healthy object yields nothing, a damaged one that rule on that object, and no other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gdb_kdump.errors import Unreadable, Why
from gdb_kdump.records.slab import (
    ALLOCATED,
    COUNT,
    CYCLE,
    FREE,
    MISALIGNED,
    OUTSIDE,
    SHEAVED,
    TWICE,
    UNKNOWN,
    FreelistProblem,
    Guard,
    Slab,
    SlabCache,
    SlabObject,
    Zone,
)
from gdb_kdump.rules.findings import CORRUPT, SUSPECT
from gdb_kdump.rules.slab import judge_slab

CACHE = SlabCache(
    addr=0xFFFF888001042A00,
    name="skbuff_head_cache",
    size=384,
    object_size=232,
    inuse=240,
    offset=240,
    red_left_pad=64,
    random=0x1234,
    flags=frozenset({"RED_ZONE", "POISON", "OBJECT_POISON"}),
    cpu_slab=0,
)
START = 0xFFFF888003A40000
FIRST, SECOND, THIRD = (START + 64 + 384 * index for index in range(3))
SLAB = Slab(0xFFFFEA00000E9000, START, CACHE, 10, 8, None, frozenset({SECOND, THIRD}))
LEFT, RIGHT = Guard(Zone.LEFT_REDZONE, FIRST - 64, 64, 0xCC), Guard(Zone.RIGHT_REDZONE, FIRST + 232, 8, 0xCC)
PADDING = Guard(Zone.PADDING, FIRST + 312, 8, 0x5A)
HEALTHY = SlabObject(FIRST, SLAB, 0, FIRST, ALLOCATED, "", (LEFT, RIGHT, PADDING))
BODY, END = Guard(Zone.POISON, SECOND, 231, 0x6B), Guard(Zone.END_POISON, SECOND + 231, 1, 0xA5)
FREED = SlabObject(SECOND, SLAB, 1, SECOND, FREE, "", (BODY, END))
WILD = 0x4141414141414141


def damaged(found: SlabObject, guard: Guard, data: bytes) -> SlabObject:
    """The object with the first bytes of one of its guards overwritten."""
    bad = replace(guard, damaged_at=guard.addr, found=data)
    return replace(found, guards=tuple(bad if one is guard else one for one in found.guards))


def with_problem(kind: str, found: int, holder: int = SECOND) -> SlabObject:
    problem = FreelistProblem("the slab", kind, holder + 240 if holder else SLAB.addr + 32, holder, 7, found, 2)
    return replace(HEALTHY, slab=replace(SLAB, problems=(problem,)))


@pytest.mark.parametrize(
    "found",
    [
        HEALTHY,
        FREED,
        replace(HEALTHY, guards=()),
        replace(HEALTHY, slab=replace(SLAB, cpu=1, inuse=10)),
        replace(HEALTHY, state=UNKNOWN, slab=replace(SLAB, hole=Unreadable(SECOND, Why.FILTERED))),
        replace(HEALTHY, guards=(replace(LEFT, hole=Unreadable(FIRST, Why.TRUNCATED)),)),
    ],
)
def test_healthy_objects_have_no_findings(found: SlabObject) -> None:
    assert judge_slab(found) == []


@pytest.mark.parametrize(
    ("found", "rule", "member", "blamed"),
    [
        (damaged(HEALTHY, LEFT, b"A" * 64), "slab.redzone", "left redzone", FIRST),
        (damaged(HEALTHY, RIGHT, b"\0"), "slab.redzone", "right redzone", FIRST),
        (damaged(HEALTHY, PADDING, b"\0"), "slab.poison", "padding", FIRST),
        (damaged(FREED, BODY, b"A\x6bA"), "slab.poison", "poison", SECOND),
        (damaged(FREED, END, b"\x6b"), "slab.poison", "end poison", SECOND),
        (with_problem(OUTSIDE, WILD), "slab.freelist", "freelist", SECOND),
        (with_problem(MISALIGNED, THIRD + 8), "slab.freelist", "freelist", SECOND),
        (with_problem(OUTSIDE, WILD, 0), "slab.freelist", "freelist", SLAB.addr),
        # Where the links meet again stands the object that was freed twice.
        (with_problem(CYCLE, THIRD), "slab.freelist", "freelist", THIRD),
        (with_problem(TWICE, THIRD), "slab.freelist", "freelist", THIRD),
        (with_problem(SHEAVED, THIRD), "slab.freelist", "freelist", THIRD),
    ],
)
def test_damage_is_found(found: SlabObject, rule: str, member: str, blamed: int) -> None:
    (finding,) = judge_slab(found)
    assert (finding.rule, finding.member, finding.object, finding.severity) == (rule, member, blamed, CORRUPT)
    assert finding.expected and finding.found and CACHE.name in finding.message


def test_a_freelist_that_leads_into_another_cache_names_both() -> None:
    into = with_problem(OUTSIDE, START + 0x10000)
    problem = replace(into.slab.problems[0], found_in="kmalloc-128")
    (finding,) = judge_slab(replace(into, slab=replace(into.slab, problems=(problem,))))
    assert "not in this slab but in one of kmalloc-128" in finding.message and f"({CACHE.name})" in finding.message


def test_the_head_of_a_freelist_is_no_object() -> None:
    (finding,) = judge_slab(with_problem(OUTSIDE, WILD, 0))
    assert "leads from" not in finding.message and f"whose head is at {SLAB.addr + 32:#x}" in finding.message


def test_a_wrong_count_alone_is_suspect() -> None:
    (finding,) = judge_slab(with_problem(COUNT, 1, 0))
    assert (finding.severity, finding.object, finding.found) == (SUSPECT, SLAB.addr, "1")


def test_a_long_damage_is_shown_in_part() -> None:
    (finding,) = judge_slab(damaged(HEALTHY, LEFT, bytes(range(64))))
    assert finding.found.endswith("0f ...") and "over 64 bytes" in finding.message


def test_what_hides_behind_a_problem_is_unknown() -> None:
    assert SLAB.state(FIRST) == (ALLOCATED, "")
    assert SLAB.state(SECOND) == (FREE, "")
    slab = with_problem(OUTSIDE, WILD).slab
    assert slab.state(SECOND) == (FREE, "")
    state, reason = slab.state(FIRST)
    assert state == UNKNOWN and "0x4141414141414141" in reason
    state, reason = replace(SLAB, hole=Unreadable(SECOND, Why.FILTERED)).state(FIRST)
    assert state == UNKNOWN and "left out of the dump" in reason
