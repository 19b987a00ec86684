"""The kdump-compressed format: header, sub header, two bitmaps, page descriptors, page data; as in makedumpfile.

Read here for what libkdumpfile does not say: how many pages the file should have and has not, and which.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from gdb_kdump.errors import DumpError, Why
from gdb_kdump.formats.flattened import DumpFile
from gdb_kdump.formats.kdump_header import Header, cut_off
from gdb_kdump.formats.page_bitmap import PageBitmap

_DESCRIPTOR = "QII8x"  # makedumpfile's struct page_desc {off_t offset; u32 size; u32 flags; u64 page_flags}
DESCRIPTOR_BYTES = 24
_DESCRIPTORS_PER_READ = 1 << 16
_SAMPLE_ABOVE = 10_000_000
_SAMPLE = 2_000_000  # how many descriptors are looked at then

Extents = tuple[tuple[int, int], ...]
"""Bytes of a file: offsets and sizes."""


@dataclass(frozen=True)
class Lost:
    """Pages whose data is not in the file, and the bytes it lacks; `exact` is false when only a sample was counted."""

    pages: int
    bytes: int
    exact: bool
    at_least: bool
    """Whether more bytes are missing than can be told, because the descriptors that would tell are missing too."""


class Kdump:
    """One kdump-compressed file, of one of the `machines`.

    Raises DumpError when it is damaged, of another machine, or cut off before its pages begin.
    """

    def __init__(self, file: DumpFile, machines: Sequence[str]) -> None:
        self.file = file
        self.header = header = Header.parse(file, machines)
        self.block, self.first, self.end = header.block, header.first, header.end
        self._swap = header.order == ">"
        self._descriptor = struct.Struct(header.order + _DESCRIPTOR)
        self.descriptors_at = header.bitmap_at + header.bitmap_bytes
        self._check_size()
        self._bitmap = PageBitmap(file, *self._dumped(), self.first, self.end)
        self._is_dumped = self._bitmap.has
        self.pages = self._bitmap.pages
        """How many pages were dumped into this file."""
        self.data_at = self.descriptors_at + DESCRIPTOR_BYTES * self.pages
        self.holey = True
        """Whether data of pages that were dumped may be missing; `lost` finds it out."""

    def _check_size(self) -> None:
        """Raise DumpError when the file ends before its page descriptors."""
        file, header = self.file, self.header
        where = "header" if file.size < header.bitmap_at else "page bitmaps"
        if self.descriptors_at > file.size or not (file.whole or file.has(header.bitmap_at, header.bitmap_bytes)):
            raise cut_off(file, self.descriptors_at, where)

    def _dumped(self) -> tuple[int, int]:
        """Where the bitmap of what was dumped is, and its size, which tell the descriptors.

        Diskdump wrote two: before it, one of the memory.
        """
        header = self.header
        one_bitmap = -(-max(header.narrow_max_pfn, header.max_pfn) // (8 * self.block)) * self.block
        has_two = header.bitmap_bytes >= 2 * one_bitmap
        start = header.bitmap_at + (header.bitmap_bytes // 2 if has_two else 0)
        return start, min(-(-header.max_pfn // 8), self.descriptors_at - start)

    def dumped_between(self, first: int, end: int) -> int:
        """How many pages were dumped, into whichever file, with page frame numbers from `first` to before `end`."""
        return self._bitmap.between(first, end)

    def lost(self) -> Lost:
        """What of this file's pages is not there."""
        sampling = -(-self.pages // _SAMPLE) if self.pages > _SAMPLE_ABOVE else 1
        starts = list(range(0, self.pages, _DESCRIPTORS_PER_READ * max(sampling, 1)))
        if sampling > 1:
            starts.append(self.pages - _DESCRIPTORS_PER_READ)  # the last are the first to go
        seen = lost = 0
        end = self.data_at
        for start in starts:
            count = min(_DESCRIPTORS_PER_READ, self.pages - start)
            descriptors_at = self.descriptors_at + DESCRIPTOR_BYTES * start
            raw = self.file.read(descriptors_at, DESCRIPTOR_BYTES * count)
            words = array("Q", raw[: len(raw) // DESCRIPTOR_BYTES * DESCRIPTOR_BYTES])
            if self._swap:
                words.byteswap()
            offsets, sizes = words[0::3], words[1::3]
            seen += count
            lost += count - len(offsets)
            if not offsets:
                continue
            if self.header.unknown_flags:
                self._refuse_unknown(sizes)
            last = self.file.size - self.block  # no page is larger: what begins until there has an end, too
            if max(offsets) > last or not min(offsets) or not self.file.whole:
                for offset, both in zip(offsets, sizes):
                    if 0 < offset <= last and self.file.whole:
                        continue
                    size = both >> 32 if self._swap else both & 0xFFFFFFFF  # the flags share its word
                    if not offset or not self.file.has(offset, size):
                        lost += 1
                    end = max(end, offset + size)
        if sampling > 1:
            lost = lost * self.pages // seen
        self.holey = bool(lost) or self.header.incomplete or sampling > 1
        at_least = self.file.missing(self.descriptors_at, self.data_at) > 0
        return Lost(lost, self.file.missing(self.descriptors_at, end), sampling <= 1, at_least)

    def _refuse_unknown(self, sizes: array[int]) -> None:
        """Raise DumpError when pages have a flag that the header has too and that is unknown: a new compression."""
        for both in sizes:
            flags = both & 0xFFFFFFFF if self._swap else both >> 32
            if flags & self.header.unknown_flags:
                raise DumpError(
                    f"{self.file.path} need not be damaged, but its pages are stored in a way (flag {flags:#x}) that "
                    "nobody knows here: have the makedumpfile that wrote it store them by zlib (-c)"
                )

    def absent(self, physical: int) -> Why | None:
        """FILTERED when a page was not dumped, TRUNCATED when it was and its data is not in the file."""
        if not self.holey:
            return None if self._is_dumped(physical // self.block) else Why.FILTERED
        extents = self.extents(physical)
        return extents if isinstance(extents, Why) else None

    def surely_has(self, physical: int, size: int) -> int:
        """How many bytes from a physical address on the file has, up to `size`, or 0: then `absent` must say it."""
        pfn, start = divmod(physical, self.block)
        if self.holey or not self._is_dumped(pfn):
            return 0
        pages = self._bitmap.run(pfn, -(-(start + size) // self.block))
        return int(min(pages * self.block - start, size))

    def descriptors(self, pfn: int, count: int) -> list[tuple[int, int, int]]:
        """Offset, size and flags of the data of pages in a row that the file surely has; fewer where it ends."""
        descriptors_at = self.descriptors_at + DESCRIPTOR_BYTES * self._bitmap.index(pfn)
        table = self.file.read(descriptors_at, DESCRIPTOR_BYTES * count)
        return list(self._descriptor.iter_unpack(table[: len(table) // DESCRIPTOR_BYTES * DESCRIPTOR_BYTES]))

    def stretch(self, physical: int, size: int) -> tuple[int, Why | None]:
        """For how many bytes from a physical address on, up to `size`, what absent() says of it is true."""
        pfn, start = divmod(physical, self.block)
        most, why = -(-(start + size) // self.block), None
        if not self._is_dumped(pfn):
            pages, why = self._bitmap.gap(pfn, most), self.absent(physical)
        elif self.holey:
            pages, why = 1, self.absent(physical)
        else:
            pages = self._bitmap.run(pfn, most)
        return int(min(pages * self.block - start, size)), why

    def extents(self, physical: int) -> Extents | Why:
        """Where the file has what is needed to read a page, or why it has not."""
        pfn = physical // self.block
        if not self._is_dumped(pfn):
            return Why.FILTERED
        descriptor_at = self.descriptors_at + DESCRIPTOR_BYTES * self._bitmap.index(pfn)
        if not self.file.has(descriptor_at, DESCRIPTOR_BYTES):
            return Why.TRUNCATED
        descriptor = self.file.read(descriptor_at, DESCRIPTOR_BYTES)
        if len(descriptor) < DESCRIPTOR_BYTES:
            self.file.check()
            return Why.UNKNOWN  # the disk does not give it
        offset, size, _ = self._descriptor.unpack(descriptor)
        if not offset or not self.file.has(offset, size):
            return Why.TRUNCATED
        if size > self.block:  # what does not get smaller is stored as it is
            return Why.CORRUPT
        return (descriptor_at, DESCRIPTOR_BYTES), (offset, size)
