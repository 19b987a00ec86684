"""Physical memory as it is, without a word about it: LiME's ranges, and raw files of hypervisors.

LiME: https://github.com/504ensicsLabs/LiME, doc: a header of 32 bytes before each range of memory, little-endian:
magic, version, first and last address, 8 bytes reserved.
Raw: QEMU's pmemsave, VMware's .vmem, the snapshots of Firecracker and cloud-hypervisor. A file that was written from
the guest's memory has none of the hole below 4 GiB in which devices are: what comes after it begins where the hole did.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from gdb_kdump.errors import DumpError
from gdb_kdump.formats.flattened import DumpFile
from gdb_kdump.formats.segments import Segment, Segments
from gdb_kdump.formats.signatures import LIME

_LIME_HEADER = struct.Struct("<IIQQ8s")
_LIME_VERSION = 1
_MOST_RANGES = 1 << 16
_TOP = 1 << 52  # the most that physical addresses have

Layout = Sequence[Segment]
_NOWHERE = 0  # the virtual address of a segment that has none


class MemoryImage(Segments):
    """Memory of which it may not be sure where it belongs: `layouts` are the possibilities, and one is in use."""

    def __init__(
        self, file: DumpFile, layouts: Sequence[Layout], page_size: int, machine: int, description: str
    ) -> None:
        self.layouts = layouts
        super().__init__(file, layouts[0], page_size, machine, description)

    @property
    def most_pfn(self) -> int:
        """One more than the highest page frame's number in any of the layouts."""
        ends = (segment.physical + segment.size for layout in self.layouts for segment in layout)
        return -(-max(ends) // self.page_size)

    def use(self, layout: Layout) -> None:
        """Have the memory where a layout says."""
        self._place(layout)

    def _place(self, segments: Sequence[Segment]) -> None:
        super()._place(segments)
        self.mapped = []


def lime(file: DumpFile, page_size: int, machine: int, alive: Callable[[], None]) -> MemoryImage:
    """The memory in a LiME file; raises DumpError for a damaged one."""
    segments: list[Segment] = []
    position = 0
    while position + _LIME_HEADER.size <= file.size:
        magic, version, first, last, _ = _LIME_HEADER.unpack(file.read(position, _LIME_HEADER.size))
        if magic != int.from_bytes(LIME, "little") or version != _LIME_VERSION or not first <= last < _TOP:
            raise DumpError(
                f"{file.path} is a LiME file that is damaged at byte {position:,}: there is no header of a range "
                f"(version {_LIME_VERSION}); copy it again from where it was made"
            )
        if len(segments) >= _MOST_RANGES:
            raise DumpError(f"{file.path} is a LiME file of more than {_MOST_RANGES:,} ranges, as no machine has")
        position += _LIME_HEADER.size
        segments.append(Segment(first, position, last + 1 - first, _NOWHERE))
        position += last + 1 - first
        alive()
    if not segments:
        raise DumpError(f"{file.path} is a LiME file that ends before its first range: copy it again")
    return MemoryImage(file, [segments], page_size, machine, "LiME")


def raw(
    file: DumpFile,
    page_size: int,
    machine: int,
    holes: Sequence[tuple[int, int]],
    known: tuple[int, int] | None = None,
) -> MemoryImage:
    """The memory in a file that has nothing else; `holes` it may have, unless the user has `known` one.

    A hole is its first address and the first one after it.  Raises DumpError for one that cannot be.
    """
    whole = [Segment(0, 0, file.size, _NOWHERE)]
    if known is None:
        possible = [_around(file, *hole) for hole in holes if hole[0] < file.size]
        return MemoryImage(file, [whole, *possible], page_size, machine, "raw memory")
    start, end = known
    if not 0 < start < end < _TOP or start % page_size or end % page_size:
        raise DumpError(f"--hole {start:#x}-{end:#x} is none: it takes two addresses of pages, the higher one last")
    layout = _around(file, start, end) if start < file.size else whole
    return MemoryImage(file, [layout], page_size, machine, "raw memory")


def _around(file: DumpFile, start: int, end: int) -> Layout:
    return [Segment(0, 0, start, _NOWHERE), Segment(end, start, file.size - start, _NOWHERE)]
