"""kslab: the page, slab, cache and object that an address lies in; the caches."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from gdb_kdump import walks
from gdb_kdump.commands.arguments import Arguments, Option, address
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.show.findings import finding_json, findings_text, note_findings
from gdb_kdump.commands.show.slabjson import cache_json, guard_json, object_json, page_json, slab_json, track_json
from gdb_kdump.commands.show.styles import Line
from gdb_kdump.commands.show.tables import pairs, table
from gdb_kdump.errors import UsageError
from gdb_kdump.kernel.mm.pages import Page, Pages
from gdb_kdump.kernel.mm.slub import SlubAllocator
from gdb_kdump.kernel.module.source import Source
from gdb_kdump.records.record import record
from gdb_kdump.records.slab import ALLOCATED, FREE, UNKNOWN, Slab, SlabCache, SlabObject, Track
from gdb_kdump.rules.findings import Finding
from gdb_kdump.rules.slab import judge_slab
from gdb_kdump.session import Session
from gdb_kdump.text import hex16
from gdb_kdump.walks import Gaps, walk


@record
class Located:
    """An address and what is there: its page, its slab and the list which that is on, its object and those around it.

    `tracks` are the last allocation and free of the object, each with the functions that led there.
    """

    addr: int
    page: Page | None
    slab: Slab | None = None
    list_name: str = ""
    aliases: tuple[str, ...] = ()
    slab_object: SlabObject | None = None
    before: SlabObject | None = None
    after: SlabObject | None = None
    tracks: tuple[tuple[Track, tuple[str, ...]], ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class CacheRow:
    """A cache, its other names, the number of its slabs and objects, and how many of those are free and unknown."""

    cache: SlabCache
    aliases: tuple[str, ...]
    slabs: int
    objects: int
    free: int
    unknown: int


class Kslab(Command["Located | list[CacheRow]"]):
    name = "kslab"
    operands = "ADDRESS | -l [PATTERN]"
    summary = """Show what memory ADDRESS is: its page, slab cache and object, and whether that is allocated or free.
ADDRESS is a GDB expression, or hex digits without 0x, and may lie anywhere in the object.  The neighbours are the
objects before and after it; with slub_debug red zones, poison and the last allocation and free are shown, too.
$_kfindings is set to the number of corrupt findings."""
    options = (Option("-l", "list the caches, or those whose names match PATTERN"),)

    def read(self, session: Session, arguments: Arguments, gaps: Gaps) -> Located | list[CacheRow]:
        if arguments.has("-l"):
            if len(arguments.operands) > 1:
                raise UsageError("-l takes one PATTERN")
            return _list(session, arguments.operands[0] if arguments.operands else "*", gaps)
        if not arguments.operands:
            raise UsageError("name an address: kslab ADDRESS, or list the caches: kslab -l")
        return _locate(session, address(" ".join(arguments.operands)), gaps)

    def note(self, result: Located | list[CacheRow]) -> None:
        if isinstance(result, Located):
            note_findings(result.findings)

    def text(self, result: Located | list[CacheRow]) -> Iterator[Line]:
        return _located_text(result) if isinstance(result, Located) else _listed_text(result)

    def json(self, result: Located | list[CacheRow]) -> Any:
        return _located_json(result) if isinstance(result, Located) else _listed_json(result)

    def gaps_json(self, gaps: list[str]) -> dict[str, Any]:
        return {"missing": gaps}


def _locate(session: Session, addr: int, gaps: Gaps) -> Located:
    page = session.once(Pages).find(addr)
    if page is None or not page.is_slab:
        return Located(addr=addr, page=page)
    slabs = session.once(SlubAllocator)
    slab, slab_object = slabs.find_slab(addr), slabs.find_object(addr)
    located = Located(
        addr=addr,
        page=page,
        slab=slab,
        list_name=slabs.list_name(slab, gaps) if slab is not None else "",
        aliases=slabs.aliases(slab.cache) if slab is not None else (),
    )
    if slab_object is None:
        return located
    before, after = slabs.neighbours(slab_object)
    judged = (judge_slab(one) for one in (slab_object, before, after) if one is not None)
    return replace(
        located,
        slab_object=slab_object,
        before=before,
        after=after,
        tracks=tuple((track, _functions(session, track)) for track in slabs.tracks(slab_object)),
        findings=tuple(dict.fromkeys(chain.from_iterable(judged))),
    )


def _functions(session: Session, track: Track) -> tuple[str, ...]:
    """The functions of a track's stack, or of its caller alone where no stack was kept."""
    source, names = session.once(Source), []
    for pc in track.stack or (track.caller,):
        frame = source.frames(pc, True)[-1]
        where = f"{frame.function}+{frame.offset:#x}" if frame.function and frame.offset is not None else hex16(pc)
        names.append(where + (f" [{frame.module}]" if frame.module else ""))
    return tuple(names)


def _located_text(result: Located) -> Iterator[Line]:
    rows: list[tuple[str, Any]] = [("ADDRESS", hex16(result.addr))]
    page, slab, slab_object = result.page, result.slab, result.slab_object
    if page is None:
        rows.append(("PAGE", "none: the address is not in the direct map of memory, nor in the kernel's image"))
    else:
        what = page.kind or "in use" if page.refcount or page.kind else "not in use"
        size = f", part of 2^{page.order} pages from {hex16(page.start)}" if page.order else ""
        rows.append(("PAGE", f"{hex16(page.addr)} (pfn {page.pfn:#x}): {what}{size}; refcount {page.refcount}"))
        rows.append(("FLAGS", ", ".join(page.flags) or "none"))
    if slab is not None:
        counts = f"{slab.nr_objects} objects, {slab.inuse} in use by the slab's count, {len(slab.free)} free"
        rows.append(("SLAB", f"{hex16(slab.addr)} ({result.list_name}), memory {hex16(slab.start)}: {counts}"))
        cache = slab.cache
        sizes = f"object_size {cache.object_size}, size {cache.size}, free pointer at {cache.offset}"
        pad = f", red_left_pad {cache.red_left_pad}" if cache.red_left_pad else ""
        rows.append(("CACHE", f"{cache.name} ({hex16(cache.addr)}): {sizes}{pad}"))
        if result.aliases:
            rows.append(("ALSO", f"{', '.join(result.aliases)} (merged into it)"))
        rows.append(("CACHE FLAGS", ", ".join(sorted(cache.flags)) or "none"))
        if slab_object is None:
            rows.append(("OBJECT", "none: the address lies behind the last object of the slab"))
    if slab_object is not None:
        rows.append(("OBJECT", f"{hex16(slab_object.start)}{slab_object.offset:+#x}, number {slab_object.index}"))
        rows.append(("STATE", slab_object.state + (f": {slab_object.reason}" if slab_object.reason else "")))
    yield from pairs(rows)
    if slab_object is None:
        return
    yield ""
    around = (("before", result.before), ("this", slab_object), ("after", result.after))
    cells = [(name, hex16(o.start), o.state, _guards_text(o), o.reason) for name, o in around if o is not None]
    yield from table(("NEIGHBOUR", "OBJECT", "STATE", "GUARDS", "REASON"), cells)
    for track, functions in result.tracks:
        done = "allocated" if track.kind == "alloc" else "freed"
        yield ""
        yield f"last {done} by PID {track.pid} on CPU {track.cpu} at {track.when}:"
        yield from (f"    {function}" for function in functions)
    yield from findings_text(result.findings)


def _guards_text(slab_object: SlabObject) -> str:
    if not slab_object.guards:
        return "none"
    damaged = [guard.name for guard in slab_object.guards if guard.damaged_at is not None]
    unread = [guard.name for guard in slab_object.guards if guard.hole is not None]
    words = [f"{name} DAMAGED" for name in damaged] + [f"{name} unreadable" for name in unread]
    return ", ".join(words) or "intact"


def _located_json(result: Located) -> Any:
    page, slab, slab_object = result.page, result.slab, result.slab_object
    around = (("before", result.before), ("after", result.after))
    return {
        "address": hex16(result.addr),
        "page": None if page is None else page_json(page),
        "slab": None if slab is None else slab_json(slab, result.list_name),
        "cache": None if slab is None else cache_json(slab.cache, result.aliases),
        "object": None if slab_object is None else hex16(slab_object.start),
        "offset": None if slab_object is None else slab_object.offset,
        "index": None if slab_object is None else slab_object.index,
        "state": None if slab_object is None else slab_object.state,
        "reason": None if slab_object is None else slab_object.reason,
        "neighbours": [{"side": side} | object_json(one) for side, one in around if one is not None],
        "guards": [] if slab_object is None else [guard_json(guard) for guard in slab_object.guards],
        "tracks": [track_json(track, functions) for track, functions in result.tracks],
        "findings": [finding_json(finding) for finding in result.findings],
    }


def _list(session: Session, pattern: str, gaps: Gaps) -> list[CacheRow]:
    slabs = session.once(SlubAllocator)
    chosen = [
        cache
        for cache in slabs.caches(gaps)
        if any(fnmatch.fnmatchcase(name, pattern) for name in (cache.name, *slabs.aliases(cache)))
    ]
    if not chosen and pattern != "*":
        raise UsageError(f"no cache matches {pattern}; kslab -l lists them")
    rows: list[CacheRow] = []
    with walk("the caches", where=lambda cache: cache.addr) as counted, gaps.about("") as broken:
        for cache in counted(chosen):
            rows.append(_count(slabs, cache, broken))
    gaps.note(counted.ended)
    return rows


def _count(slabs: SlubAllocator, cache: SlabCache, gaps: Gaps) -> CacheRow:
    pages = slabs.slabs_of(cache, gaps)
    allocated, free, unknown = (
        sum(1 for _ in slabs.for_each_object(cache, gaps, (state,))) for state in (ALLOCATED, FREE, UNKNOWN)
    )
    return CacheRow(cache, slabs.aliases(cache), len(pages), allocated + free + unknown, free, unknown)


def _listed_text(result: list[CacheRow]) -> Iterator[str]:
    headers = ("CACHE", "OBJSIZE", "SIZE", "ALLOCATED", "TOTAL", "SLABS", "NAME")
    rows = []
    for row in walks.shown(sorted(result, key=lambda row: row.cache.name)):
        allocated = row.objects - row.free - row.unknown
        # What is unknown may be either.
        counted = f"{allocated}..{allocated + row.unknown}" if row.unknown else str(allocated)
        cache = row.cache
        rows.append(
            (
                hex16(cache.addr),
                cache.object_size,
                cache.size,
                counted,
                row.objects,
                row.slabs,
                ", ".join((cache.name, *row.aliases)),
            )
        )
    yield from table(headers, rows, right=headers[1:6])


def _listed_json(result: list[CacheRow]) -> Any:
    return {
        "caches": [
            cache_json(row.cache, row.aliases)
            | {
                "slabs": row.slabs,
                "objects": row.objects,
                "allocated": row.objects - row.free - row.unknown,
                "free": row.free,
                "unknown": row.unknown,
            }
            for row in sorted(result, key=lambda row: row.cache.name)
        ]
    }
