"""JSON of pages, slabs and their objects."""

from __future__ import annotations

from typing import Any

from gdb_kdump.kernel.mm.pages import Page
from gdb_kdump.records.slab import Guard, Slab, SlabCache, SlabObject, Track
from gdb_kdump.text import hex16


def page_json(page: Page) -> Any:
    """A page."""
    return {
        "page": hex16(page.addr),
        "head": hex16(page.head),
        "pfn": page.pfn,
        "start": hex16(page.start),
        "order": page.order,
        "kind": page.kind,
        "flags": list(page.flags),
        "refcount": page.refcount,
    }


def slab_json(slab: Slab, place: str) -> Any:
    """A slab with its freelists; `place` is the list that it is on."""
    return {
        "slab": hex16(slab.addr),
        "start": hex16(slab.start),
        "place": place,
        "objects": slab.nr_objects,
        "inuse": slab.inuse,
        "cpu": slab.cpu,
        "free": [hex16(start) for start in sorted(slab.free)],
        "freelist_problems": [
            {
                "where": problem.where,
                "kind": problem.kind,
                "pointer": hex16(problem.pointer),
                "object": hex16(problem.object),
                "stored": hex16(problem.stored),
                "found": problem.found,
                "expected": problem.expected,
                "message": problem.sentence,
            }
            for problem in slab.problems
        ],
        "unreadable": None if slab.hole is None else {"address": hex16(slab.hole.addr), "why": slab.hole.why.name},
    }


def cache_json(cache: SlabCache, aliases: tuple[str, ...]) -> dict[str, Any]:
    """A cache; `aliases` are the names of those merged into it."""
    return {
        "cache": hex16(cache.addr),
        "name": cache.name,
        "aliases": list(aliases),
        "object_size": cache.object_size,
        "size": cache.size,
        "offset": cache.offset,
        "inuse": cache.inuse,
        "red_left_pad": cache.red_left_pad,
        "random": None if cache.random is None else hex16(cache.random),
        "flags": sorted(cache.flags),
    }


def object_json(slab_object: SlabObject) -> dict[str, Any]:
    """An object as a neighbour is shown."""
    return {
        "object": hex16(slab_object.start),
        "index": slab_object.index,
        "state": slab_object.state,
        "reason": slab_object.reason,
        "guards": [guard_json(guard) for guard in slab_object.guards],
    }


def guard_json(guard: Guard) -> Any:
    """A guard: `intact` is null where it cannot be read."""
    return {
        "name": guard.name,
        "address": hex16(guard.addr),
        "size": guard.size,
        "expected": guard.expected,
        "intact": None if guard.hole is not None else guard.damaged_at is None,
        "damaged_at": None if guard.damaged_at is None else hex16(guard.damaged_at),
        "found": guard.found.hex(),
        "unreadable": None if guard.hole is None else guard.hole.why.name,
    }


def track_json(track: Track, functions: tuple[str, ...]) -> Any:
    """A track; `functions` are the names for its stack, or for its caller where there is no stack."""
    stack = [{"pc": hex16(pc), "function": name} for pc, name in zip(track.stack or (track.caller,), functions)]
    return {"kind": track.kind, "caller": hex16(track.caller), "cpu": track.cpu, "pid": track.pid} | {
        "when": track.when,
        "stack": stack,
    }
