"""The kdump-compressed format: header, sub header, two bitmaps, page descriptors, page data; as in makedumpfile.

Read here for what libkdumpfile does not say: how many pages the file should have and has not, and which.
"""

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from gdb_kdump.errors import DumpError, Why
from gdb_kdump.formats.flattened import DumpFile
from gdb_kdump.formats.notes import vmcoreinfo

_DESCRIPTOR = "QII8x"  # makedumpfile's struct page_desc {off_t offset; u32 size; u32 flags; u64 page_flags}
_DESCRIPTOR_BYTES = 24
_DESCRIPTORS_PER_READ = 1 << 16
_SAMPLE_ABOVE = 10_000_000
_SAMPLE = 2_000_000  # how many descriptors are looked at then
_BITMAP_STEP = 4096  # bytes of bitmap between two remembered page counts
_STEPS_KEPT = 256  # a MiB of bitmap, which tells of 32 GiB of memory
_STATUS_INCOMPLETE = 0x8  # makedumpfile's DUMP_DH_COMPRESSED_INCOMPLETE
_STATUS_KNOWN = 0x3F  # zlib, lzo, snappy, that one, DUMP_DH_EXCLUDED_VMEMMAP, zstd
_FIRST_BLOCK = 4096  # bytes: of whatever size a block is, the header is in these
_BLOCK_SIZES = (4096, 8192, 16384, 32768, 65536)
_HEADER_BYTES = 464  # struct disk_dump_header of a 64-bit kernel
_BLOBS = ((3, 32), (4, 48), (5, 64))
"""Since which version the sub header has, and where, offset and size (u64) of VMCOREINFO, of notes, of erased names."""
_UTSNAME = slice(12, 12 + 6 * 65)  # struct new_utsname: sysname, nodename, release, version, machine, domainname
_MACHINE = slice(12 + 4 * 65, 12 + 5 * 65)
_MACHINE_NAME = re.compile("[a-z][a-z0-9_]{1,15}")
_TIME_AT = 408  # struct timeval; a set's files have one, or those of the moments when each of them was begun
_SAME_SECONDS = 2
MOST_NOTES = 64 << 20

Allocations = tuple[tuple[int, int], ...]

_ONES_OF_BYTE = bytes(bin(byte).count("1") for byte in range(256))


def _count_ones(bits: int) -> int:
    """How many bits of a number are set."""
    return sum(bits.to_bytes(-(-bits.bit_length() // 8), "little").translate(_ONES_OF_BYTE))


# Python 3.10 brought one that is ten times as fast, and every page that is read needs it.
_ones: Callable[[int], int] = getattr(int, "bit_count", None) or _count_ones


@dataclass(frozen=True)
class Lost:
    """Pages whose data is not in the file, and the bytes it lacks; `exact` is false when only a sample was counted."""

    pages: int
    bytes: int
    exact: bool
    at_least: bool
    """Whether more bytes are missing than can be told, because the descriptors that would tell are missing too."""


class Kdump:
    """One kdump-compressed file; raises DumpError when it is damaged, or cut off before its pages begin."""

    def __init__(self, file: DumpFile, machines: Sequence[str]) -> None:
        """`machines` are the names of those that can be read."""
        self.file = file
        head = file.read(0, _FIRST_BLOCK)
        if len(head) < _HEADER_BYTES:
            raise cut_off(file, _FIRST_BLOCK, "header")
        self.machine = head[_MACHINE].partition(b"\0")[0].decode(errors="replace")
        """The kernel's name of the machine, "" where the header has none."""
        if self.machine not in ("", *machines):  # 32-bit ones have other headers than those that are read here
            if not _MACHINE_NAME.fullmatch(self.machine):
                raise DumpError(f"{file.path} has a damaged header: no machine is called {self.machine!r}")
            raise other_machine(file, self.machine, machines)
        order = "<"
        if struct.unpack_from("<i", head, 428)[0] not in _BLOCK_SIZES:
            order = ">"
        status, self.block, sub_blocks, bitmap_blocks, max_pfn = struct.unpack_from(order + "IiiII", head, 424)
        if self.block not in _BLOCK_SIZES or sub_blocks < 0:
            raise DumpError(f"{file.path} has a damaged header: a block size of {self.block} bytes is impossible")
        self._unknown = status & ~_STATUS_KNOWN
        self.incomplete = bool(status & _STATUS_INCOMPLETE)
        """makedumpfile marked the file: it ran out of space, or reached the size that it was given (-L)."""
        (version,) = struct.unpack_from(order + "i", head, 8)
        sub = file.read(self.block, 104).ljust(104, b"\0")
        (split,) = struct.unpack_from(order + "i", sub, 12)
        self.notes: bytes = b""
        """ELF notes; before version 4 there are none."""
        self.vmcoreinfo: bytes | None = None
        if version >= 4:
            self.notes = self._head_bytes(*struct.unpack_from(order + "QQ", sub, 48))
        elif version == 3:
            self.vmcoreinfo = self._head_bytes(*struct.unpack_from(order + "QQ", sub, 32)) or None
        text = self.vmcoreinfo = self.vmcoreinfo or vmcoreinfo(self.notes)
        size_line = f"PAGESIZE={self.block}".encode()
        is_odd = any(line.startswith(b"PAGESIZE") and line != size_line for line in (text or b"").split(b"\n"))
        self.hidden_blobs = [
            self.block + at + 8
            for since, at in _BLOBS
            if version >= since and (is_odd or not file.has(*struct.unpack_from(order + "QQ", sub, at)))
        ]
        """Where the header has the sizes (u64) of what libkdumpfile must not see: it dies of reading what the file does
        not have, and refuses a dump whose VMCOREINFO has a damaged page size."""
        self.max_pfn = max_pfn
        first, end = struct.unpack_from(order + "QQ", sub, 16)
        if version >= 6:
            first, end, max_64 = struct.unpack_from(order + "QQQ", sub, 80)
            self.max_pfn = max_64 or max_pfn
        self.split = version >= 2 and bool(split)
        """Whether this is one file of a set that `makedumpfile --split` wrote."""
        self.first: int = first if self.split else 0
        self.end: int = min(end, self.max_pfn) if self.split else self.max_pfn
        """The pages that this file is for: page frame numbers from `first` to before `end`."""
        # A dump's own name, the same in all files of a set: machine, kernel, memory; and when it crashed.
        self._identity = head[_UTSNAME] + struct.pack("<QQ", self.block, self.max_pfn)
        (self._time,) = struct.unpack_from(order + "q", head, _TIME_AT)
        self._descriptor = struct.Struct(order + _DESCRIPTOR)
        self._swap = order == ">"
        bitmap_at = (1 + sub_blocks) * self.block
        self.bitmap_bytes = bitmap_blocks * self.block
        self.descriptors_at = bitmap_at + self.bitmap_bytes
        where = "header" if file.size < bitmap_at else "page bitmaps"
        if self.descriptors_at > file.size or not (file.whole or file.has(bitmap_at, self.bitmap_bytes)):
            raise cut_off(file, self.descriptors_at, where)
        # Diskdump wrote one bitmap of the memory and one of what was dumped; the second tells the descriptors.
        one_bitmap = -(-max(max_pfn, self.max_pfn) // (8 * self.block)) * self.block
        self._dumped_at = bitmap_at + (self.bitmap_bytes // 2 if self.bitmap_bytes >= 2 * one_bitmap else 0)
        self._dumped_bytes = min(-(-self.max_pfn // 8), self.descriptors_at - self._dumped_at)
        self._steps: dict[int, bytes] = {}
        self._counts = self._count()
        self.pages = self._counts[-1]
        """How many pages were dumped into this file."""
        self.data_at = self.descriptors_at + _DESCRIPTOR_BYTES * self.pages
        self.holey = True
        """Whether data of pages that were dumped may be missing; `lost` finds it out."""

    def _head_bytes(self, offset: int, size: int) -> bytes:
        """Notes or a text, of a size that makes sense; empty where there are none."""
        return self.file.read(offset, size) if 0 < size <= MOST_NOTES else b""

    def is_of_one_dump(self, other: Kdump) -> bool:
        """Whether another file is of the same dump, as far as their headers tell."""
        return self._identity == other._identity and abs(self._time - other._time) <= _SAME_SECONDS

    def dumped_between(self, first: int, end: int) -> int:
        """How many pages were dumped, into whichever file, with page frame numbers from `first` to before `end`."""
        # A damaged header may name more pages than the bitmap has bits.
        steps = range(first // (8 * _BITMAP_STEP), -(-min(end, 8 * self._dumped_bytes) // (8 * _BITMAP_STEP)))
        return sum(_ones(self._read_bits(step, first, end)) for step in steps)

    def _count(self) -> list[int]:
        """How many pages were dumped into this file before each step of the bitmap, and in all."""
        counts, total = [0], 0
        for step in range(-(-self._dumped_bytes // _BITMAP_STEP)):
            total += _ones(self._read_bits(step, self.first, self.end))
            counts.append(total)
        return counts

    def _read_bits(self, step: int, first: int, end: int) -> int:
        """A step of the bitmap as a number, bit 0 for its first page; only pages from `first` to before `end`."""
        start = step * _BITMAP_STEP
        stop = min(start + _BITMAP_STEP, self._dumped_bytes)
        if stop <= start:
            return 0
        bits = int.from_bytes(self.file.read(self._dumped_at + start, stop - start), "little")
        if start * 8 < first:
            skip = first - start * 8
            bits = bits >> skip << skip
        if stop * 8 > end:
            bits &= (1 << max(0, end - start * 8)) - 1
        return bits

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
            at = self.descriptors_at + _DESCRIPTOR_BYTES * start
            raw = self.file.read(at, _DESCRIPTOR_BYTES * count)
            words = array("Q", raw[: len(raw) // _DESCRIPTOR_BYTES * _DESCRIPTOR_BYTES])
            if self._swap:
                words.byteswap()
            offsets, sizes = words[0::3], words[1::3]
            seen += count
            lost += count - len(offsets)
            if not offsets:
                continue
            if self._unknown:
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
        self.holey = bool(lost) or self.incomplete or sampling > 1
        at_least = self.file.missing(self.descriptors_at, self.data_at) > 0
        return Lost(lost, self.file.missing(self.descriptors_at, end), sampling <= 1, at_least)

    def _refuse_unknown(self, sizes: array[int]) -> None:
        """Raise DumpError when pages have a flag that the header has too and that nobody knows: a new compression."""
        for both in sizes:
            flags = both & 0xFFFFFFFF if self._swap else both >> 32
            if flags & self._unknown:
                raise DumpError(
                    f"{self.file.path} need not be damaged, but its pages are stored in a way (flag {flags:#x}) that "
                    "nobody knows here: have the makedumpfile that wrote it store them by zlib (-c)"
                )

    def absent(self, physical: int) -> Why | None:
        """FILTERED when a page was not dumped, TRUNCATED when it was and its data is not in the file."""
        places = (
            self.places(physical) if self.holey else () if self._is_dumped(physical // self.block) else Why.FILTERED
        )
        return places if isinstance(places, Why) else None

    def surely_has(self, physical: int, size: int) -> int:
        """How many bytes from a physical address on the file has, up to `size`, or 0: then `absent` must say it."""
        pfn, start = divmod(physical, self.block)
        if self.holey or not self._is_dumped(pfn):
            return 0
        step, rest = divmod(pfn, 8 * _BITMAP_STEP)
        pages = min(-(-(start + size) // self.block), self.end - pfn)
        bits = int.from_bytes(self._steps[step][rest >> 3 : rest + pages + 7 >> 3], "little") >> (rest & 7)
        pages = min(pages, (~bits & bits + 1).bit_length() - 1)  # as many as there are ones before the first zero
        return int(min(pages * self.block - start, size))

    def places(self, physical: int) -> Allocations | Why:
        """Where the file has what is needed to read a page, offsets and sizes, or why it has not."""
        pfn = physical // self.block
        if not self._is_dumped(pfn):
            return Why.FILTERED
        step, rest = divmod(pfn, 8 * _BITMAP_STEP)
        bits = self._read_bits(step, self.first, self.end)
        index = self._counts[step] + _ones(bits & (1 << rest) - 1)
        descriptor_at = self.descriptors_at + _DESCRIPTOR_BYTES * index
        if not self.file.has(descriptor_at, _DESCRIPTOR_BYTES):
            return Why.TRUNCATED
        descriptor = self.file.read(descriptor_at, _DESCRIPTOR_BYTES)
        if len(descriptor) < _DESCRIPTOR_BYTES:
            self.file.check()
            return Why.UNKNOWN  # the disk does not give it
        offset, size, _ = self._descriptor.unpack(descriptor)
        if not offset or not self.file.has(offset, size):
            return Why.TRUNCATED
        if size > self.block:  # what does not get smaller is stored as it is
            return Why.CORRUPT
        return (descriptor_at, _DESCRIPTOR_BYTES), (offset, size)

    def _is_dumped(self, pfn: int) -> bool:
        """Whether a page was dumped into this file."""
        step, rest = divmod(pfn, 8 * _BITMAP_STEP)
        if not self.first <= pfn < self.end or step >= len(self._counts) - 1:
            return False
        if step not in self._steps:
            if len(self._steps) >= _STEPS_KEPT:
                self._steps.clear()
            start = step * _BITMAP_STEP
            size = min(_BITMAP_STEP, self._dumped_bytes - start)
            self._steps[step] = self.file.read(self._dumped_at + start, size)
        bits = self._steps[step]
        return rest >> 3 < len(bits) and bool(bits[rest >> 3] >> (rest & 7) & 1)


def cut_off(file: DumpFile, needed: int, where: str) -> DumpError:
    """What is said of a file that ends before its first page, in its `where`; it needs `needed` bytes for that."""
    lacks = file.missing(0, needed)
    return DumpError(
        f"{file.path} is truncated: it ends after {file.size:,} bytes, in its {where}, "
        f"so all of its pages are missing and {lacks:,} bytes of headers; copy it again from where it was made"
    )


def other_machine(file: DumpFile, machine: str, machines: Iterable[str]) -> DumpError:
    """What is said of a dump of another machine than those that can be read."""
    known = " and ".join(machines)
    return DumpError(
        f"{file.path} is a dump of {machine}: only {known} dumps can be opened here; use drgn, or crash of that machine"
    )
