"""What causes ask of memory: the object at an address, who freed it, and the pointers that a fault was about."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from gdb_kdump.diagnosis.causes.answer import Case, Evidence
from gdb_kdump.diagnosis.trip import Culprit
from gdb_kdump.errors import Corrupt, MissingDebugInfo, Unreadable
from gdb_kdump.kernel.mm.allocator import allocator
from gdb_kdump.kernel.mm.slub import SlubAllocator
from gdb_kdump.kernel.module.source import Source, SourceFrame
from gdb_kdump.kernel.stack.unwind import Frame
from gdb_kdump.records.slab import SlabObject, Track
from gdb_kdump.text import hex16, is_kernel_address

REACH = 3000  # bytes: how far in a struct the member may be that was used
_LEAST = 1 << 16  # below that an address is NULL and an offset
_NEAR = 3
_MOST_BYTES = 8192
_WORD = 8
_MOST_ALIASES = 3


def find_object(case: Case, addr: int) -> SlabObject | None:
    """The slab object that an address lies in, None where it is in none, or nothing can tell."""
    try:
        return allocator(case.session).find_object(addr)
    except (Unreadable, Corrupt, MissingDebugInfo):
        return None


def fault_pointers(case: Case) -> Iterator[tuple[int, str]]:
    """The pointers in the registers of the frame at the fault, each once, with the register's name."""
    arch, met = case.session.arch, set[int]()
    frame = first_real(case.trip.outward)
    for name, value in frame.registers.items() if frame is not None else ():
        if name not in (arch.pc, arch.sp) and is_kernel_address(value) and value not in met:
            met.add(value)
            yield value, name


def wild_values(case: Case) -> set[int]:
    """The address that led nowhere, and the pointers in the fault's registers from which a member leads there."""
    addr = case.trip.address
    if addr is None or addr < _LEAST:
        return set()
    frame = first_real(case.trip.outward)
    registers = frame.registers.values() if frame is not None else ()
    return {addr, *(value for value in registers if 0 <= addr - value < REACH)}


def near_functions(case: Case) -> set[str]:
    """The function at the fault and its next callers, with what is inlined there."""
    names, real = set[str](), 0
    for frame in case.trip.outward:
        names.add(frame.source.function or "?")
        real += not frame.source.inlined
        if real == _NEAR:
            break
    return names


def words_of(case: Case, found: SlabObject) -> Sequence[int]:
    """The 64-bit words of an object; none where it is not in the dump."""
    size = min(found.cache.object_size, _MOST_BYTES) & -_WORD
    try:
        return [word for (word,) in struct.iter_unpack("<Q", case.session.memory.read(found.start, size))]
    except Unreadable:
        return ()


def name_of(case: Case, found: SlabObject) -> str:
    """An object by its address, its cache (`a/b` where b was merged into a: it may be of either), and its state."""
    slabs = allocator(case.session)
    aliases = slabs.aliases(found.cache) if isinstance(slabs, SlubAllocator) else ()
    more = "/..." if len(aliases) > _MOST_ALIASES else ""
    caches = "/".join((found.cache.name, *aliases[:_MOST_ALIASES]))
    return f"object {hex16(found.start)} of {caches}{more} ({found.state})"


def tracks_of(case: Case, found: SlabObject) -> list[tuple[Track, list[SourceFrame]]]:
    """The last allocation and free of an object, with the functions of each; none without slub_debug=U."""
    slabs = allocator(case.session)
    if not isinstance(slabs, SlubAllocator):
        return []
    source = case.session.once(Source)
    try:
        tracks = slabs.tracks(found)
    except (Unreadable, Corrupt, MissingDebugInfo):
        return []
    return [(track, [source.frames(pc, True)[-1] for pc in track.stack or (track.caller,)]) for track in tracks]


def tracks_told(case: Case, found: SlabObject) -> list[Evidence]:
    """The same as evidence: whose functions allocated and freed the object."""
    told = []
    for track, frames in tracks_of(case, found):
        names = " <- ".join(
            function_name(frame) for frame in frames if frame.function is not None and not _is_slab(frame)
        )
        done = "allocated" if track.kind == "alloc" else "freed"
        if names:
            text = f"it was last {done} by PID {track.pid} on CPU {track.cpu}: {_cut(names)}"
            told.append(Evidence(text, f"kslab {hex16(found.start)}"))
    return told


def freer_of(case: Case, found: SlabObject) -> Culprit | None:
    """The module function that last freed an object, by its track."""
    for track, frames in tracks_of(case, found):
        named = next((frame for frame in frames if frame.module is not None and frame.function is not None), None)
        if track.kind == "free" and named is not None and named.function is not None and named.module is not None:
            where = "The first module function in the track of its free"
            return Culprit(named.function, named.module, None, f"it freed {name_of(case, found)}", where)
    return None


def function_name(frame: SourceFrame) -> str:
    """A function with its module."""
    return f"{frame.function} [{frame.module}]" if frame.module else str(frame.function)


def first_real(frames: Sequence[Frame]) -> Frame | None:
    """The first frame that is a function of its own."""
    return next((frame for frame in frames if not frame.source.inlined), None)


def _is_slab(frame: SourceFrame) -> bool:
    return (frame.file or "").startswith("mm/sl")


def _cut(names: str) -> str:
    parts = names.split(" <- ")
    return " <- ".join(parts[:4]) + (" <- ..." if len(parts) > 4 else "")
