"""Slab objects on real dumps: the kernel's own skbs, socks and tasks are allocated objects of their caches, free ones
are free, and damage done to a copy of the dump's memory is found where it is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump

from gdb_kdump.errors import Unreadable, Why
from gdb_kdump.kernel.mm.slub_freelists import Freelists, SlabExtent
from gdb_kdump.records.slab import CYCLE, MISALIGNED, OUTSIDE, TWICE, SlabCache

InGdb = Callable[..., Any]


@pytest.fixture(params=KERNELS)
def dump(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump(f"{request.param}-healthy")


def look_up(addresses: list[str]) -> list[list[Any] | None]:
    """For each address: names of the cache, start, state, offset and findings of its object, or None."""
    from gdb_kdump import session
    from gdb_kdump.kernel.mm.slub import SlubAllocator
    from gdb_kdump.rules.slab import judge_slab

    slabs = session.current().once(SlubAllocator)
    rows: list[list[Any] | None] = []
    for addr in addresses:
        found = slabs.find_object(int(addr, 16))
        if found is None:
            rows.append(None)
            continue
        findings = [finding.message for finding in judge_slab(found)]
        names = [found.cache.name, *slabs.aliases(found.cache)]
        rows.append([names, f"0x{found.start:016x}", found.state, found.offset, findings])
    return rows


def test_the_kernels_skbs_are_allocated(in_gdb: InGdb, dump: LabDump) -> None:
    skbs = list(dump.skbs())
    for skb, row in zip(skbs, in_gdb(look_up, skbs, vmcore=dump.vmcore)):
        assert row is not None, skb
        names, _, state, offset, findings = row
        fclone = dump.skbs()[skb]["fclone"]
        # The clone of a pair stands behind its original in one object.
        assert ("skbuff_fclone_cache" if fclone else "skbuff_head_cache") in names, row
        assert (state, findings) == ("allocated", [])
        assert offset == 0 if fclone != 2 else offset > 0, row


def test_the_kernels_socks_are_allocated(in_gdb: InGdb, dump: LabDump) -> None:
    socks = {sock["sock"]: sock["prot"] for sock in dump.truth["socks"]}
    for (sock, prot), row in zip(socks.items(), in_gdb(look_up, list(socks), vmcore=dump.vmcore)):
        assert row is not None, sock
        # sk_prot_alloc: a protocol without a cache of its own takes kmalloc.
        assert prot in row[0] or row[0][0].startswith("kmalloc-"), (prot, row)
        assert row[1:] == [sock, "allocated", 0, []]


def test_buffers_are_kmalloc_or_no_slab_at_all(in_gdb: InGdb, dump: LabDump) -> None:
    heads = {skb["head"]: skb for skb in dump.truth["skbs"]}
    for (head, skb), row in zip(heads.items(), in_gdb(look_up, list(heads), vmcore=dump.vmcore)):
        if skb["head_frag"]:
            assert row is None, (head, row)
        elif row is not None:
            assert row[0][0].startswith("kmalloc-") or "skbuff_small_head" in row[0], row
            assert row[1:] == [head, "allocated", 0, []]


def test_the_kernels_tasks_are_all_in_their_cache(in_gdb: InGdb, dump: LabDump) -> None:
    def allocated(name: str) -> list[str]:
        from gdb_kdump import session
        from gdb_kdump.kernel.mm.slub import SlubAllocator
        from gdb_kdump.walks import Gaps

        slabs = session.current().once(SlubAllocator)
        cache = slabs.find_cache(name)
        assert cache is not None
        gaps = Gaps()
        found = [f"0x{addr:016x}" for addr in slabs.for_each_object(cache, gaps)]
        assert not len(gaps)
        return found

    found = in_gdb(allocated, "task_struct", vmcore=dump.vmcore)
    assert len(found) == len(set(found))
    static = {task["task"] for task in dump.truth["tasks"] if task["pid"] == 0}
    assert {task["task"] for task in dump.truth["tasks"]} - static <= set(found)


def sweep() -> dict[str, Any]:
    """Every object of every cache: how many there are in each state, and what does not agree with anything."""
    import time

    from gdb_kdump import session
    from gdb_kdump.kernel.mm.slub import SlubAllocator
    from gdb_kdump.rules.slab import judge_slab
    from gdb_kdump.walks import Gaps

    started = time.process_time()
    slabs = session.current().once(SlubAllocator)
    counts = {"allocated": 0, "free": 0, "unknown": 0}
    objects = {
        cache.addr: {state: list(slabs.for_each_object(cache, Gaps(), (state,))) for state in counts}
        for cache in slabs.caches(Gaps())
    }
    seconds = time.process_time() - started
    wrong = []
    for cache in slabs.caches(Gaps()):
        for state, starts in objects[cache.addr].items():
            counts[state] += len(starts)
            for start in starts:
                found = slabs.find_object(start + cache.object_size - 1)
                assert found is not None
                if (found.start, found.state, found.cache) != (start, state, cache) or judge_slab(found):
                    wrong.append(f"{cache.name} {start:#x} {state} {found}")
    whole = sum(slabs.slab(page).nr_objects for cache in slabs.caches(Gaps()) for page in slabs.slabs_of(cache, Gaps()))
    return {"seconds": seconds, "counts": counts, "wrong": wrong[:5], "whole": whole}


def test_every_object_of_every_cache(in_gdb: InGdb, dump: LabDump) -> None:
    found = in_gdb(sweep, vmcore=dump.vmcore)
    assert found["wrong"] == []
    counts = found["counts"]
    assert counts["unknown"] == 0 and counts["free"] > 100 and counts["allocated"] > 10_000
    assert counts["allocated"] + counts["free"] == found["whole"]
    assert found["seconds"] < 2


def damage_a_slab(kind: str) -> dict[str, Any]:
    """Damage a copy of a partial slab's freelist in the cache of Memory, and tell what is found."""
    from gdb_kdump import session as sessions
    from gdb_kdump.errors import Why
    from gdb_kdump.kernel.mm.slub import SlubAllocator
    from gdb_kdump.records.slab import Slab
    from gdb_kdump.rules.slab import judge_slab
    from gdb_kdump.walks import Gaps

    session = sessions.current()
    memory = session.memory

    def write(addr: int, data: bytes) -> None:
        memory.read(addr, len(data))
        old, start = memory._pages[addr >> 12]
        new = old[: addr - start] + data + old[addr - start + len(data) :]
        for page, entry in list(memory._pages.items()):
            if entry[0] is old:
                memory._pages[page] = (new, start)

    before = session.once(SlubAllocator)

    def in_use(slab: Slab) -> list[int]:
        """Its objects that are allocated: since 6.18 some that no freelist has are free, too, in sheaves."""
        starts = range(slab.start, slab.end, slab.cache.size)
        return [start for start in starts if (found := before.find_object(start)) and found.state == "allocated"]

    slab, order = next(
        (slab, walk)
        for cache in before.caches(Gaps())
        for slab in map(before.slab, before.slabs_of(cache, Gaps()))
        if slab.cpu is None and 4 <= len(slab.free) < slab.nr_objects and slab.end - slab.start <= 4096
        if in_use(slab)
        for walk in [sorted(slab.free)]
    )
    cache = slab.cache

    def encode(value: int, at: int) -> int:
        # By hand, as the kernel does since 5.7; decoding is the same.
        assert cache.random is not None
        return value ^ cache.random ^ int.from_bytes(at.to_bytes(8, "little"), "big")

    links = {start: start + cache.offset for start in order}
    follows = {start: encode(memory.u64(at), at) for start, at in links.items()}
    (first,) = set(follows) - set(follows.values())
    chain = [first]
    while follows[chain[-1]]:
        chain.append(follows[chain[-1]])
    victim = chain[1] + cache.offset
    meant = {
        "outside": slab.end + 4096 + cache.red_left_pad,
        "misaligned": chain[2] + 8,
        "cycle": chain[0],
        "cut": 0,
    }.get(kind)
    elsewhere = slab.nr_objects - len(slab.free) - len(in_use(slab))  # in sheaves
    allocated = in_use(slab)[0]
    if kind == "hole":
        for page in range(slab.start >> 12, slab.end + 4095 >> 12):
            memory._pages.pop(page, None)
            memory._holes[page] = Why.FILTERED
    elif meant is None:
        write(victim, b"A" * 8)
    else:
        write(victim, encode(meant, victim).to_bytes(8, "little"))
    slabs = SlubAllocator(session)
    found = slabs.find_object(allocated)
    assert found is not None
    return {
        "chain": [*chain[:3], slab.addr],
        "findings": [(finding.rule, finding.object, finding.severity) for finding in judge_slab(found)],
        "state": found.state,
        "reason": found.reason,
        "free": [slabs.find_object(start).state for start in chain],  # type: ignore[union-attr]
        "listed": sum(1 for _ in slabs.for_each_object(cache, Gaps(), ("unknown",))),
        "objects": slab.nr_objects - elsewhere,
    }


@pytest.mark.parametrize(
    ("kind", "blamed", "severity", "known"),
    [
        ("outside", 1, "corrupt", 2),
        ("misaligned", 1, "corrupt", 2),
        ("overwritten", 1, "corrupt", 2),
        ("cycle", 0, "corrupt", 2),
        ("cut", 3, "suspect", 2),
        ("hole", None, None, 1),
    ],
)
def test_damaged_freelists(
    in_gdb: InGdb, dump: LabDump, kind: str, blamed: int | None, severity: str | None, known: int
) -> None:
    found = in_gdb(damage_a_slab, kind, vmcore=dump.vmcore)
    expected = [] if blamed is None else [["slab.freelist", found["chain"][blamed], severity]]
    assert found["findings"] == expected
    assert found["state"] == "unknown" and found["reason"]
    # What the list no longer leads to still holds an encoded link, where it can be read.
    behind = "unknown" if kind == "hole" else "free"
    assert found["free"] == ["free"] * known + [behind] * (len(found["free"]) - known)
    assert found["listed"] == found["objects"] - known


def guards_of(state: str, at: int, data: str) -> list[list[Any]]:
    """The guards of an object as slub_debug=ZPU lays it out, with `data` written `at` bytes from its start."""
    from types import SimpleNamespace

    from gdb_kdump import session as sessions
    from gdb_kdump.kernel.mm.slub_debug import SlubDebug
    from gdb_kdump.records.slab import SlabCache

    session = sessions.current()
    flags = frozenset({"RED_ZONE", "POISON", "OBJECT_POISON", "STORE_USER"})
    cache = SlabCache(1, "things", 640, 100, 104, 104, 16, None, flags, 0)
    red = b"\xcc" if state == "allocated" else b"\xbb"
    body = b"u" * 100 if state == "allocated" else b"\x6b" * 99 + b"\xa5"
    tracks = 2 * session.layout.size("track")
    filled = red * 16 + body + red * 4 + bytes(8 + tracks)
    room = bytearray(filled.ljust(640, b"\x5a"))
    room[16 + at : 16 + at + len(data) // 2] = bytes.fromhex(data)
    debug = SlubDebug(session, tuple)
    debug._memory = SimpleNamespace(read=lambda addr, size: bytes(room[addr : addr + size]))  # type: ignore[assignment]
    return [[guard.name, guard.addr - 16, guard.size, guard.damaged_at, guard.found.hex()]
            for guard in debug.guards(cache, 16, state)]  # fmt: skip


@pytest.mark.parametrize(
    ("state", "at", "data", "damaged"),
    [
        ("allocated", 0, "", {}),
        ("free", 0, "", {}),
        ("allocated", 99, "41", {}),
        ("allocated", 98, "41414142", {"right redzone": (100, "4142")}),
        ("allocated", -3, "41", {"left redzone": (-3, "41")}),
        ("free", 10, "416b41", {"poison": (10, "416b41")}),
        ("free", 99, "00", {"end poison": (99, "00")}),
        ("free", 98, "000000", {"poison": (98, "00"), "end poison": (99, "00"), "right redzone": (100, "00")}),
        ("allocated", 623, "ff", {"padding": (623, "ff")}),
    ],
)
def test_guards(
    in_gdb: InGdb, dump: LabDump, state: str, at: int, data: str, damaged: dict[str, tuple[int, str]]
) -> None:
    guards = in_gdb(guards_of, state, at, data, vmcore=dump.vmcore)
    names = ["left redzone", *(["poison", "end poison"] if state == "free" else []), "right redzone", "padding"]
    assert [guard[0] for guard in guards] == names
    assert sum(guard[2] for guard in guards if "redzone" in guard[0]) == 20
    assert {name: (found - 16, text) for name, _, _, found, text in guards if found is not None} == damaged


def kmalloc_zones(damage: bool) -> list[list[Any]]:
    """What is judged of objects that kmalloc() made larger than it was asked for; `damage` writes behind that."""
    import dataclasses

    from gdb_kdump import session
    from gdb_kdump.kernel.mm.slub import SlubAllocator
    from gdb_kdump.memory import Memory
    from gdb_kdump.rules.slab import judge_slab

    class Damaged(Memory):
        end = 0

        def read(self, addr: int, size: int) -> bytes:
            data, at = bytearray(super().read(addr, size)), self.end - addr
            if 0 <= at <= size - 4:
                data[at + 2 : at + 4] = b"ab"
            return bytes(data)

    opened = session.current()
    rows: list[list[Any]] = []
    for cache, start in opened.once(SlubAllocator)._kmalloc_samples():
        requested = opened.once(SlubAllocator)._debug._requested(cache, start)
        if requested is None or not 0 < requested < cache.object_size - 4 or len(rows) == 5:
            continue

        memory = Damaged(opened.server)
        memory.end = start + requested if damage else 0
        slabs = dataclasses.replace(opened, memory=memory, _readers={}).once(SlubAllocator)
        found = slabs.find_object(start)
        assert found is not None
        names = [guard.name for guard in found.guards]
        where = start + requested + 2
        said = [(f.rule, f.object == start, f"{where:016x}" in f.message) for f in judge_slab(found)]
        rows.append([names, said])
    return rows


@pytest.mark.parametrize("damage", [False, True])
def test_bytes_that_kmalloc_was_not_asked_for(in_gdb: InGdb, lab_dump: Callable[[str], LabDump], damage: bool) -> None:
    rows = in_gdb(kmalloc_zones, damage, vmcore=lab_dump("6.12-faults-slub").vmcore)
    assert len(rows) == 5
    for names, said in rows:
        assert "kmalloc redzone" in names
        assert said == ([["slab.redzone", True, True]] if damage else [])


def test_kernels_that_do_not_guard_them(in_gdb: InGdb, lab_dump: Callable[[str], LabDump]) -> None:
    """6.1 notes what kmalloc() was asked for, but leaves in the rest what was there."""
    rows = in_gdb(kmalloc_zones, True, vmcore=lab_dump("6.1-faults-slub").vmcore)
    assert len(rows) == 5
    assert all("kmalloc redzone" not in names and said == [] for names, said in rows)


def test_kslab_shows_an_skb(gdb_run: Gdb, dump: LabDump) -> None:
    skb = next(skb for skb in dump.truth["skbs"] if not skb["fclone"])
    run = gdb_run(
        f"kslab {skb['skb']} --json",
        f"kslab ((struct sk_buff *){skb['skb']})->cb --json",
        f"kslab {skb['skb']}",
        "print $_kfindings",
        vmcore=dump.vmcore,
    ).succeeded()
    whole, inside = run.documents
    assert (whole["object"], whole["offset"], whole["state"]) == (skb["skb"], 0, "allocated")
    assert whole["cache"]["name"] == "skbuff_head_cache"
    assert whole["page"]["kind"] == "slab" and whole["page"]["head"] == whole["slab"]["slab"]
    assert (inside["object"], inside["index"]) == (skb["skb"], whole["index"]) and inside["offset"] > 0
    assert {one["side"] for one in whole["neighbours"]} <= {"before", "after"}
    for one in whole["neighbours"]:
        distance = int(one["object"], 16) - int(skb["skb"], 16)
        assert distance == whole["cache"]["size"] * (1 if one["side"] == "after" else -1)
    assert re.search(rf"^this +{skb['skb']} +allocated", run.stdout, re.MULTILINE)
    assert "= 0\n" in run.stdout


def test_kslab_of_what_is_no_slab(gdb_run: Gdb, dump: LabDump) -> None:
    run = gdb_run("kslab &init_task --json", "kslab $sp --json", "kslab 0 --json", "kslab 0", vmcore=dump.vmcore)
    image, stack, null = run.succeeded().documents
    assert image["page"]["kind"] == "reserved" and stack["page"] is None and null["page"] is None
    for found in (image, stack, null):
        assert (found["slab"], found["object"], found["state"], found["neighbours"]) == (None, None, None, [])


def test_kslab_lists_the_caches(gdb_run: Gdb, dump: LabDump) -> None:
    run = gdb_run("kslab -l --json", "kslab -l 'skbuff_h*'", "kslab -l task_struct", vmcore=dump.vmcore)
    (listed,) = run.documents
    rows = {row["name"]: row for row in listed["caches"]}
    assert any("skbuff_fclone_cache" in (row["name"], *row["aliases"]) for row in rows.values())
    assert listed["missing"] == [] and len(rows) > 50
    assert rows["task_struct"]["allocated"] >= len(dump.truth["tasks"]) - 1
    for row in rows.values():
        assert row["objects"] == row["allocated"] + row["free"] and row["size"] >= row["object_size"]
    assert re.search(r" task_struct$", run.stdout, re.MULTILINE)


def test_kslab_says_what_it_cannot_do(gdb_run: Gdb, dump: LabDump) -> None:
    commands = ("kslab", "kslab -l no-such-cache", "kslab -l a b", "kslab no_such_symbol")
    run = gdb_run(*commands, vmcore=dump.vmcore)
    assert "Traceback" not in run.output
    assert len([line for line in run.errors if line.startswith("kslab: ")]) == 4, run.output


# Freelists, alone.

CACHE = SlabCache(1, "things", 64, 64, 64, 32, 0, 0x0123456789ABCDEF, frozenset(), 0)
EXTENT = SlabExtent(CACHE, 0xFFFF888003A40000, 8)
OBJECTS = [EXTENT.start + 64 * index for index in (3, 1, 4, 0)]


class FakeMemory:
    """Links of free objects: address to value; anything else was left out of the dump."""

    def __init__(self, encode: Callable[[int, int], int], links: dict[int, int]) -> None:
        self._words = {start + 32: encode(found, start + 32) for start, found in links.items()}

    def u64(self, addr: int) -> int:
        if addr not in self._words:
            raise Unreadable(addr, Why.FILTERED)
        return self._words[addr]


def swapped(pointer: int, at: int) -> int:
    return pointer ^ 0x0123456789ABCDEF ^ int.from_bytes(at.to_bytes(8, "little"), "big")


def plain(pointer: int, at: int) -> int:
    return pointer ^ 0x0123456789ABCDEF ^ at


def lists(encode: Callable[[int, int], int], links: dict[int, int]) -> Freelists:
    healthy = dict(zip(OBJECTS, [*OBJECTS[1:], 0]))
    memory = FakeMemory(encode, healthy | links)
    return Freelists(memory, lambda: [(EXTENT, start) for start in OBJECTS])  # type: ignore[arg-type]


@pytest.mark.parametrize("encode", [swapped, plain])
def test_the_encoding_is_found(encode: Callable[[int, int], int]) -> None:
    walk = lists(encode, {}).walk(EXTENT, "the slab", 1, OBJECTS[0])
    assert (list(walk.objects), walk.problem, walk.hole) == (OBJECTS, None, None)


@pytest.mark.parametrize(
    ("link", "kind"),
    [
        (EXTENT.start + 512, OUTSIDE),
        (EXTENT.start - 64, OUTSIDE),
        (0x4141414141414141, OUTSIDE),
        (EXTENT.start + 65, MISALIGNED),
        (OBJECTS[0], CYCLE),
        (OBJECTS[1], CYCLE),
        (EXTENT.start + 64 * 7, TWICE),
    ],
)
def test_bad_links(link: int, kind: str) -> None:
    others = frozenset({EXTENT.start + 64 * 7})
    walk = lists(swapped, {OBJECTS[1]: link}).walk(EXTENT, "the slab", 1, OBJECTS[0], others)
    assert list(walk.objects) == OBJECTS[:2] and walk.problem is not None
    problem = walk.problem
    assert (problem.kind, problem.object, problem.pointer, problem.found) == (kind, OBJECTS[1], OBJECTS[1] + 32, link)
    assert problem.sentence


def test_a_bad_head() -> None:
    problem = lists(swapped, {}).walk(EXTENT, "CPU 1", 0x1000, 0xDEAD).problem
    assert problem is not None
    assert (problem.where, problem.object, problem.pointer, problem.found) == ("CPU 1", 0, 0x1000, 0xDEAD)


def test_a_hole_is_no_damage() -> None:
    absent = EXTENT.start + 64 * 6
    walk = lists(swapped, {OBJECTS[1]: absent}).walk(EXTENT, "the slab", 1, OBJECTS[0])
    assert walk.problem is None and walk.hole is not None
    assert (list(walk.objects), walk.hole.addr) == ([*OBJECTS[:2], absent], absent + 32)


# What kernels disagree on, asked of types that are as theirs.

OLD = """
enum pageflags { PG_locked, PG_slab = 9, PG_checked = 10, PG_swapcache = 10, PG_head = 16, __NR_PAGEFLAGS = 23 };
typedef struct { int counter; } atomic_t;
struct list_head { struct list_head *next, *prev; };
struct page {
    unsigned long flags;
    union {
        struct { struct list_head lru; void *mapping; };
        struct { union { struct list_head slab_list; struct { struct page *next; int pages; }; };
                 struct kmem_cache *slab_cache; void *freelist;
                 union { unsigned long counters; struct { unsigned inuse : 16, objects : 15, frozen : 1; }; }; };
        struct { unsigned long compound_head; unsigned char compound_dtor, compound_order; };
    };
    union { atomic_t _mapcount; unsigned int page_type; };
    atomic_t _refcount;
} page;
enum pageflags flags;
struct kmem_cache_cpu { void **freelist; unsigned long tid; struct page *page, *partial; } cpu;
"""
BITS = """
enum pageflags { PG_locked, PG_head = 6, __NR_PAGEFLAGS = 23 } flags;
enum pagetype { PG_buddy = 0x40000000, PG_slab = 0x02000000, PAGE_TYPE_BASE = 0x80000000,
                PAGE_MAPCOUNT_RESERVE = ~0xffff } types;
enum _slab_flag_bits { _SLAB_RED_ZONE, _SLAB_POISON, _SLAB_FLAGS_LAST_BIT } bits;
struct page { struct { unsigned long f; } flags; unsigned long rest[6]; unsigned long compound_head; } page;
struct folio { struct page page; union { struct { unsigned long _flags_1; }; struct page second; }; } folio;
"""
MACROS = "enum pageflags { PG_locked, PG_head = 6 } flags; struct page { unsigned long flags; } page;"
NUMBERS = """
enum pageflags { PG_locked, PG_head = 6 } flags;
enum pagetype { PGTY_buddy = 0xf0, PGTY_slab = 0xf5 } types;
struct page { unsigned long flags; } page;
"""


def ask() -> dict[str, Any]:
    import gdb

    from gdb_kdump.layout import mm
    from gdb_kdump.layout.layout import Layout

    def find_type(name: str) -> gdb.Type | None:
        try:
            return gdb.lookup_type(name)
        except gdb.error:
            return None

    here = Layout(find_type)
    names = ("slab.slab_cache", "slab.slab_list", "slab.inuse", "slab.objects", "kmem_cache_cpu.slab")
    has_cpu = here.find_struct("kmem_cache_cpu") is not None
    return {
        "flags": mm.page_flags(here),
        "types": mm.page_types(here),
        "order": mm.compound_order(here),
        "slab_flags": mm.slab_flags(here),
        "size": here.size("page"),
        "members": {name: [here.member(name).offset, here.member(name).bit_size] for name in names} if has_cpu else {},
        "page.flags": here.member("page.flags").path,
    }


def test_older_kernels_have_slabs_in_struct_page(in_gdb: InGdb, compile_types: Callable[..., Path]) -> None:
    found = in_gdb(ask, elf=compile_types(OLD))
    assert found["flags"] == {"locked": 1, "slab": 1 << 9, "checked": 1 << 10, "head": 1 << 16}
    assert found["types"] == {"buddy": [0xF0000080, 0xF0000000]}
    assert found["order"] == found["size"] + 17
    assert found["members"] == {
        "slab.slab_cache": [24, 0],
        "slab.slab_list": [8, 0],
        "slab.inuse": [40, 16],
        "slab.objects": [42, 15],
        "kmem_cache_cpu.slab": [16, 0],
    }
    assert found["slab_flags"]["RED_ZONE"] == 0x400 and found["slab_flags"]["STORE_USER"] == 0x10000


def test_page_types_of_newer_kernels(in_gdb: InGdb, compile_types: Callable[..., Path]) -> None:
    bits = in_gdb(ask, elf=compile_types(BITS))
    assert bits["types"] == {"buddy": [0xC0000000, 0x80000000], "slab": [0x82000000, 0x80000000]}
    assert (bits["slab_flags"], bits["page.flags"]) == ({"RED_ZONE": 1, "POISON": 2}, "flags.f")
    assert bits["order"] == bits["size"]
    macros = in_gdb(ask, elf=compile_types(MACROS))
    assert macros["types"]["slab"] == [0xF0001000, 0xF0000000]
    numbers = in_gdb(ask, elf=compile_types(NUMBERS))
    assert numbers["types"] == {"buddy": [0xFF000000, 0xF0000000], "slab": [0xFF000000, 0xF5000000]}
    assert json.dumps(numbers["flags"]) == '{"locked": 1, "head": 64}'
