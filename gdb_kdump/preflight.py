"""What a dump file's own headers say about it, before any library trusts them.

libkdumpfile 0.5.1 reads a page that lies past the end of the file as zeros, or dies; so the page descriptors of a
kdump-compressed file, or the program headers of an ELF core, are compared with the file's size first.
"""

from __future__ import annotations

import os
import stat
import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from gdb_kdump.errors import DumpError, Why

_DESCRIPTOR = "QII8x"  # makedumpfile's struct page_desc {off_t offset; u32 size; u32 flags; u64 page_flags}
_DESCRIPTORS_PER_READ = 1 << 16
_SAMPLE_ABOVE = 10_000_000
_BITMAP_STEP = 4096  # bytes of bitmap between two remembered page counts
_STEPS_KEPT = 256  # a MiB of bitmap, which tells of 32 GiB of memory
_STATUS_INCOMPLETE = 0x8  # makedumpfile's DUMP_DH_COMPRESSED_INCOMPLETE
_ELF_PAGE = 4096
_NO_ADDRESS = (1 << 64) - 1
_ELF_MANY = 0xFFFF  # PN_XNUM: the number of program headers is in the first section header


@dataclass(frozen=True)
class Report:
    """How much of the dump is missing; `exact` is false when only a sample of the descriptors was looked at."""

    pages: int
    pages_missing: int
    bytes_missing: int
    fraction_missing: float
    exact: bool
    incomplete: bool
    """makedumpfile marked the file: it ran out of space."""
    sentence: str
    """For the user; empty when nothing is missing."""


@dataclass(frozen=True)
class Examined:
    """A dump file that may be opened."""

    path: str
    size: int
    report: Report
    bitmap_bytes: int
    """The size of the page bitmaps: what the library's memory grows with."""
    must_check: bool
    """Whether `absent` has to be asked before libkdumpfile reads a page of this file."""
    absent: Callable[[int], Why | None] = field(repr=False)
    """Why the file has no data for a physical address, or None when it has, or when libkdumpfile says so itself."""


def examine(path: str) -> Examined:
    """Look at the dump's headers; raises DumpError when it is no dump, or is cut off before its pages begin."""
    file = _open(path)
    size = file.seek(0, os.SEEK_END)
    head = _at(file, 0, 4096)
    if not head:
        raise DumpError(f"{path} is empty: the dump was never written, look at the capture kernel's log")
    if head.startswith((b"KDUMP   ", b"DISKDUMP")):
        return _examine_kdump(path, file, size, head)
    if head.startswith(b"\x7fELF"):
        return _examine_elf(path, file, size, head)
    for signature, sentence in _NOT_YET.items():
        if head.startswith(signature):
            raise DumpError(f"{path} {sentence}")
    if b"\0" not in head and all(byte >= 0x20 or byte in b"\t\n\r\f\x1b" for byte in head):
        raise DumpError(f"{path} is a text file, not a dump: name the vmcore itself")
    # Another of libkdumpfile's formats, or none: it shall say so.
    return Examined(path, size, Report(0, 0, 0, 0.0, False, False, ""), 0, False, lambda _: None)


_NOT_YET: dict[bytes, str] = {
    b"makedumpfile\0": "is a flattened dump: run `makedumpfile -R NEWFILE < FLATTENED` and open the new file",
    b"\x1f\x8b": "is compressed with gzip: unpack it with `gunzip` first",
    b"\xfd7zXZ\0": "is compressed with xz: unpack it with `unxz` first",
    b"BZh": "is compressed with bzip2: unpack it with `bunzip2` first",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd: unpack it with `unzstd` first",
    b"PK\x03\x04": "is a zip archive: unpack it with `unzip` first",
}


def _open(path: str) -> BinaryIO:
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise DumpError(f"{path} is a directory: name the vmcore file in it")
        if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
            raise DumpError(f"{path} is not a file: a dump must be one that can be read at any place")
        return open(path, "rb", buffering=0)
    except PermissionError:
        raise DumpError(f"{path}: no permission to read it (dumps belong to root)") from None
    except FileNotFoundError:
        raise DumpError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise DumpError(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}") from None


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    """The bytes at `offset`, as many as there are."""
    try:
        return os.pread(file.fileno(), size, offset)
    except (OverflowError, OSError):  # a damaged offset: past what a file can have
        return b""


def _cut_head(path: str, size: int, needed: int, where: str) -> DumpError:
    return DumpError(
        f"{path} is truncated: it ends after {size:,} bytes, in its {where}, "
        f"so all of its pages are missing and {needed - size:,} bytes of headers; copy it again from where it was made"
    )


def _sentence(missing: int, pages: int, size: str, exact: bool, incomplete: bool) -> str:
    if not missing and not incomplete:
        return ""
    begin = "makedumpfile ran out of space: " if incomplete else "the dump is truncated: "
    if not missing:
        return begin + "the dump is incomplete"
    about = "" if exact else "about "
    percent = 100 * missing / pages
    share = f"{percent:.1f} %" if percent >= 0.1 else "less than 0.1 %"
    return f"{begin}{about}{missing:,} of {pages:,} pages are missing, {share}{size}"


def _in_bytes(bytes_missing: int, at_least: bool = False) -> str:
    return f" ({'at least ' if at_least else ''}{bytes_missing:,} bytes)" if bytes_missing else ""


class _Kdump:
    """The places in a kdump-compressed file: header, sub header, two bitmaps, page descriptors, page data."""

    def __init__(self, path: str, file: BinaryIO, size: int, head: bytes) -> None:
        self.file = file
        self.size = size
        if len(head) < 464:
            raise _cut_head(path, size, 4096, "header")
        order = "<"
        self.status, self.block, sub_blocks, bitmap_blocks, max_pfn = struct.unpack_from("<IiiII", head, 424)
        if self.block not in (4096, 8192, 16384, 32768, 65536):
            order = ">"
            self.status, self.block, sub_blocks, bitmap_blocks, max_pfn = struct.unpack_from(">IiiII", head, 424)
        if self.block not in (4096, 8192, 16384, 32768, 65536) or sub_blocks < 0:
            raise DumpError(f"{path} has a damaged header: a block size of {self.block} bytes is impossible")
        (version,) = struct.unpack_from(order + "i", head, 8)
        sub = _at(file, self.block, 104).ljust(104, b"\0")
        (split,) = struct.unpack_from(order + "i", sub, 12)
        self.first, self.end = 0, max_pfn
        if version >= 6:
            start_64, end_64, max_64 = struct.unpack_from(order + "QQQ", sub, 80)
            self.end = max_64 or max_pfn
            if split:
                self.first, self.end = start_64, min(self.end, end_64)
        self.descriptor = struct.Struct(order + _DESCRIPTOR)
        self.swap = order == ">"
        bitmap_at = (1 + sub_blocks) * self.block
        self.descriptors_at = bitmap_at + bitmap_blocks * self.block
        self.bitmap_bytes = bitmap_blocks * self.block
        if self.descriptors_at > size:
            raise _cut_head(path, size, self.descriptors_at, "header" if size < bitmap_at else "page bitmaps")
        # Diskdump wrote one bitmap of the memory and one of what was dumped; the second tells the descriptors.
        one_bitmap = -(-max(max_pfn, self.end) // (8 * self.block)) * self.block
        self.dumped_at = bitmap_at + (self.bitmap_bytes // 2 if self.bitmap_bytes >= 2 * one_bitmap else 0)
        self.dumped_bytes = min(-(-self.end // 8), self.descriptors_at - self.dumped_at)
        self._steps: dict[int, bytes] = {}
        self.counts = self._count()
        self.pages = self.counts[-1]
        self.data_at = self.descriptors_at + 24 * self.pages

    def _count(self) -> list[int]:
        """How many pages were dumped before each step of the bitmap, and in all."""
        counts, total = [0], 0
        for at in range(0, self.dumped_bytes, _BITMAP_STEP):
            total += self._bits(at, min(at + _BITMAP_STEP, self.dumped_bytes)).bit_count()
            counts.append(total)
        return counts

    def _bits(self, start: int, stop: int) -> int:
        """Bytes `start` to `stop` of the bitmap as a number, bit 0 for the first page, without other files' pages."""
        bits = int.from_bytes(_at(self.file, self.dumped_at + start, stop - start), "little")
        if start * 8 < self.first:
            skip = self.first - start * 8
            bits = bits >> skip << skip
        if stop * 8 > self.end:
            bits &= (1 << max(0, self.end - start * 8)) - 1
        return bits

    def missing(self) -> tuple[int, int, bool]:
        """How many pages are missing, how many bytes the file lacks, and whether that was counted, not estimated."""
        step = -(-self.pages // _SAMPLE_ABOVE)
        starts = list(range(0, self.pages, _DESCRIPTORS_PER_READ * max(step, 1)))
        if step > 1:
            starts.append(self.pages - _DESCRIPTORS_PER_READ)  # the last are the first to go
        seen = lost = 0
        end = self.data_at
        for start in starts:
            count = min(_DESCRIPTORS_PER_READ, self.pages - start)
            raw = _at(self.file, self.descriptors_at + 24 * start, 24 * count)
            words = array("Q", raw[: len(raw) // 24 * 24])
            if self.swap:
                words.byteswap()
            offsets, sizes = words[0::3], words[1::3]
            seen += count
            lost += count - len(offsets)
            if not offsets:
                continue
            largest = max(offsets) + self.block
            if largest > self.size or not min(offsets):
                ends = [at + self._size(both) if at else 0 for at, both in zip(offsets, sizes, strict=True)]
                lost += sum(1 for page_end in ends if not 0 < page_end <= self.size)
                end = max(end, max(ends))
        if step > 1:
            lost = lost * self.pages // seen
        return lost, max(0, end - self.size), step <= 1

    def _size(self, both: int) -> int:
        """The size in a descriptor's second word, where it shares a word with the flags."""
        return both >> 32 if self.swap else both & 0xFFFFFFFF

    def filtered(self, physical: int) -> Why | None:
        """FILTERED when the page was not dumped."""
        return None if self._is_dumped(physical // self.block) else Why.FILTERED

    def _is_dumped(self, pfn: int) -> bool:
        step, rest = divmod(pfn, 8 * _BITMAP_STEP)
        if not self.first <= pfn < self.end or step >= len(self.counts) - 1:
            return False
        if step not in self._steps:
            if len(self._steps) >= _STEPS_KEPT:
                self._steps.clear()
            start = step * _BITMAP_STEP
            size = min(_BITMAP_STEP, self.dumped_bytes - start)
            self._steps[step] = _at(self.file, self.dumped_at + start, size)
        bits = self._steps[step]
        return rest >> 3 < len(bits) and bool(bits[rest >> 3] >> (rest & 7) & 1)

    def absent(self, physical: int) -> Why | None:
        """FILTERED when the page was not dumped, TRUNCATED when it was and its data is not in the file."""
        pfn = physical // self.block
        if not self._is_dumped(pfn):
            return Why.FILTERED
        step, rest = divmod(pfn, 8 * _BITMAP_STEP)
        bits = self._bits(step * _BITMAP_STEP, min((step + 1) * _BITMAP_STEP, self.dumped_bytes))
        index = self.counts[step] + (bits & (1 << rest) - 1).bit_count()
        raw = _at(self.file, self.descriptors_at + 24 * index, 24)
        if len(raw) < 24:
            return Why.TRUNCATED
        offset, size, _ = self.descriptor.unpack(raw)
        return None if offset and offset + size <= self.size else Why.TRUNCATED


def _examine_kdump(path: str, file: BinaryIO, size: int, head: bytes) -> Examined:
    kdump = _Kdump(path, file, size, head)
    lost, bytes_missing, exact = kdump.missing()
    incomplete = bool(kdump.status & _STATUS_INCOMPLETE)
    fraction = lost / kdump.pages if kdump.pages else 0.0
    size_missing = _in_bytes(bytes_missing, at_least=kdump.data_at > size)
    sentence = _sentence(lost, kdump.pages, size_missing, exact, incomplete)
    report = Report(kdump.pages, lost, bytes_missing, fraction, exact, incomplete, sentence)
    # libkdumpfile up to 0.5.4 must never be asked for a page that was not dumped: a failed read puts a hole into its
    # page cache, and the server dies of it once the cache is full (e63dab40c8ce, "Get data buffer before adjusting
    # ghost partition size").
    absent = kdump.absent if lost or incomplete else kdump.filtered
    return Examined(path, size, report, kdump.bitmap_bytes, True, absent)


class _Segments:
    """The PT_LOAD segments of an ELF core, by physical address."""

    def __init__(self, segments: list[tuple[int, int, int]], size: int) -> None:
        """`segments` are (physical address, offset in the file, bytes in the file)."""
        self.size = size
        self.segments = sorted(segments)
        self.starts = [physical for physical, _, _ in self.segments]
        # Segments may overlap (the kernel image has one of its own): how far back can one reach?
        self.reach: list[int] = []
        furthest = 0
        for physical, _, length in self.segments:
            furthest = max(furthest, physical + length)
            self.reach.append(furthest)

    def absent(self, physical: int) -> Why | None:
        """TRUNCATED when the file ends before the page does, FILTERED when no segment has data for it."""
        page = physical & -_ELF_PAGE
        index = bisect_right(self.starts, physical) - 1
        found = False
        while index >= 0 and self.reach[index] > physical:
            start, offset, length = self.segments[index]
            if start <= physical < start + length:
                found = True
                page_end = min(max(page + _ELF_PAGE, start), start + length)
                if offset + page_end - start > self.size:
                    return Why.TRUNCATED
            index -= 1
        return None if found else Why.FILTERED


def _examine_elf(path: str, file: BinaryIO, size: int, head: bytes) -> Examined:
    if len(head) < 64:
        raise _cut_head(path, size, 64, "header")
    order = ">" if head[5] == 2 else "<"
    (kind,) = struct.unpack_from(order + "H", head, 16)
    if kind != 4:
        raise DumpError(f"{path} is an ELF program or object (the vmlinux?), not a dump: name the vmcore first")
    if head[4] != 2:
        raise DumpError(f"{path} is a 32-bit dump: only x86_64 dumps can be opened")
    table_at, sections_at = struct.unpack_from(order + "QQ", head, 32)
    entry_size, count = struct.unpack_from(order + "HH", head, 54)
    if count == _ELF_MANY:
        section = _at(file, sections_at, 64)
        if len(section) < 64:
            raise _cut_head(path, size, sections_at + 64, "program headers")
        (count,) = struct.unpack_from(order + "I", section, 44)
    if entry_size != 56 or not count:
        raise DumpError(f"{path} has a damaged ELF header: it describes no memory")
    table = _at(file, table_at, 56 * count)
    if len(table) < 56 * count:
        raise _cut_head(path, size, table_at + 56 * count, "program headers")
    loads = []
    described = lost_bytes = 0
    end = table_at + len(table)
    for kind, _, offset, _, physical, length, _, _ in struct.iter_unpack(order + "IIQQQQQQ", table):
        end = max(end, offset + length)
        if kind == 4 and offset + length > size:
            raise _cut_head(path, size, offset + length, "notes")
        if kind == 1 and length:
            loads.append((physical, offset, length))
            described += length
            lost_bytes += min(length, max(0, offset + length - size))
    pages, lost = -(-described // _ELF_PAGE), -(-lost_bytes // _ELF_PAGE)
    bytes_missing = max(0, end - size)
    sentence = _sentence(lost, pages, _in_bytes(bytes_missing), True, False)
    report = Report(pages, lost, bytes_missing, lost / pages if pages else 0.0, True, False, sentence)
    if any(physical == _NO_ADDRESS for physical, _, _ in loads):  # /proc/kcore
        return Examined(path, size, report, 0, False, lambda _: None)
    # libkdumpfile 0.5.1 reads zeros wherever an ELF core has nothing, also between its segments.
    return Examined(path, size, report, 0, True, _Segments(loads, size).absent)
