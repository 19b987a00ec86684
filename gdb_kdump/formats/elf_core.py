"""ELF dumps: /proc/vmcore, makedumpfile -E, QEMU's dump-guest-memory; their memory is read by physical address.

Not through libkdumpfile: 0.5.1 reads zeros wherever a segment has no data, or the file has none for it.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Container, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from gdb_kdump.errors import DumpError, Why
from gdb_kdump.formats.flattened import DumpFile
from gdb_kdump.formats.kdump_header import MOST_NOTES, cut_off, other_machine
from gdb_kdump.records.runs import Hole, Run

_NO_ADDRESS = (1 << 64) - 1
_ELF_MANY = 0xFFFF  # PN_XNUM: the number of program headers is in the first section header
_HEADER_BYTES, _PROGRAM_HEADER_BYTES, _SECTION_BYTES = 64, 56, 64
_CORE, _LOAD, _NOTE = 4, 1, 4
_MACHINES = {
    3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 50: "ia64", 183: "aarch64", 243: "riscv64",
    258: "loongarch64",
}  # fmt: skip
"""By e_machine: EM_386, EM_MIPS, ..."""
_FLAG_INCOMPLETE = 0x1  # makedumpfile's DUMP_ELF_INCOMPLETE in e_flags


class Segment(NamedTuple):
    """Memory that the file describes: addresses, offset in the file, and bytes."""

    physical: int
    offset: int
    size: int
    virtual: int

    @property
    def has_physical(self) -> bool:
        """Whether it says where in physical memory it is."""
        return self.physical != _NO_ADDRESS


class ElfCore:
    """One 64-bit ELF core; raises DumpError when it is something else, or cut off before its memory begins."""

    def __init__(self, file: DumpFile, page_sizes: Mapping[int, int], machines: Sequence[str] = ()) -> None:
        """`page_sizes` are those (bytes) of the machines that can be read, by e_machine; `machines` their names."""
        self.file = file
        head = file.read(0, _HEADER_BYTES)
        if len(head) < _HEADER_BYTES:
            raise cut_off(file, _HEADER_BYTES, "header")
        order = ">" if head[5] == 2 else "<"
        self.machine = _machine(file, head, order, page_sizes, machines)
        self.page_size = page_sizes[self.machine]
        (flags,) = struct.unpack_from(order + "I", head, 48)
        self.incomplete = bool(flags & _FLAG_INCOMPLETE)
        """makedumpfile marked the file: it ran out of space, or reached the size that it was given (-L)."""
        self.notes = b""
        segments: list[Segment] = []
        for segment_type, _, offset, virtual, physical, size, _, _ in struct.iter_unpack(
            order + "IIQQQQQQ", _program_headers(file, head, order)
        ):
            if segment_type == _NOTE:
                self._add_notes(offset, size)
            if segment_type == _LOAD and size:
                segments.append(Segment(physical, offset, size, virtual))
        self._segments = sorted(segments)
        self.by_address = all(segment.has_physical for segment in segments)
        """Whether the segments say where in physical memory they are (/proc/kcore's do not)."""
        gone = [file.missing(segment.offset, segment.offset + segment.size) for segment in segments]
        self.pages = -(-sum(segment.size for segment in segments) // self.page_size)
        self.pages_lost = sum(-(-missing // self.page_size) for missing in gone)
        self.bytes_missing = sum(gone)
        self.mapped = [(segment.virtual, segment.physical) for segment in segments if segment.has_physical]
        """The virtual and physical addresses of the segments that have both."""
        self._starts = [segment.physical for segment in self._segments]
        # Segments may overlap (the kernel image has one of its own): how far back can one reach?
        self._reach = list(accumulate((segment.physical + segment.size for segment in self._segments), max))
        self.max_pfn = -(-(self._reach[-1] if self._reach else 0) // self.page_size)

    def _add_notes(self, offset: int, size: int) -> None:
        if not self.file.has(offset, size):
            raise cut_off(self.file, offset + size, "notes")
        self.notes += self.file.read(offset, min(size, MOST_NOTES - len(self.notes)))

    def read(self, physical: int, size: int) -> list[Run]:
        """The bytes and holes at a physical address: TRUNCATED where the file ends, FILTERED where no segment is."""
        runs: list[Run] = []
        while size:
            offset, length = self._find(physical, size)
            if isinstance(offset, Why):
                runs.append(Hole(length, offset))
            else:
                data = self.file.read(offset, length)
                runs += [data] if len(data) == length else [data, Hole(length - len(data), Why.UNKNOWN)]
            physical += length
            size -= length
        self.file.check()
        return runs

    def _find(self, physical: int, size: int) -> tuple[int | Why, int]:
        """Where in the file the byte at `physical` is, or why it is not, and how far that goes.

        A page that the file has only the beginning of is missing, like a page of any other dump.
        """
        index, page = bisect_right(self._starts, physical) - 1, self.page_size
        # What begins later may end a hole, or hold what another segment has lost.
        following = self._starts[index + 1] - physical if index + 1 < len(self._starts) else size
        size = min(size, following)
        cut: int | None = None
        while index >= 0 and self._reach[index] > physical:
            start, offset, length, _ = self._segments[index]
            within = min(size, start + length - physical)
            if within > 0:
                position = offset + physical - start
                end = min(-(-(physical + within) // page) * page, start + length)  # of its last page here
                if self.file.has(position, end - physical):
                    return position, within
                there = self._available(position, end - physical)
                if (physical + there) // page > physical // page:
                    return position, min(within, (physical + there) // page * page - physical)
                cut = min(within, page - physical % page, cut or within)
            index -= 1
        if cut is not None:
            return Why.TRUNCATED, cut
        # makedumpfile describes memory as it writes it: what comes after the last segment was still to be written.
        is_after_all = self.incomplete and physical >= self.max_pfn * page
        return Why.TRUNCATED if is_after_all else Why.FILTERED, size

    def _available(self, at: int, size: int) -> int:
        """How many of `size` bytes at `at` the file has, in one piece."""
        low, high = 0, size
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.file.has(at, middle) else (low, middle - 1)
        return low


def _machine(file: DumpFile, head: bytes, order: str, known: Container[int], names: Sequence[str]) -> int:
    """The e_machine of a 64-bit core; raises DumpError for other files, and machines that are not `known`."""
    file_type, machine = struct.unpack_from(order + "HH", head, 16)
    if file_type != _CORE:
        raise DumpError(f"{file.path} is an ELF program or object (the vmlinux?), not a dump: name the vmcore first")
    if machine not in known:
        raise other_machine(file, _MACHINES.get(machine, f"ELF's machine {machine}"), names)
    if head[4] != 2:
        raise DumpError(
            f"{file.path} has 32-bit ELF headers (kexec --elf32-core-headers?): use crash, which knows them"
        )
    return int(machine)


def _program_headers(file: DumpFile, head: bytes, order: str) -> bytes:
    """The table of program headers; raises DumpError where there is none, or not all of it."""
    table_at, sections_at = struct.unpack_from(order + "QQ", head, 32)
    entry_size, count = struct.unpack_from(order + "HH", head, 54)
    if count == _ELF_MANY:
        section = file.read(sections_at, _SECTION_BYTES)
        if len(section) < _SECTION_BYTES:
            raise cut_off(file, sections_at + _SECTION_BYTES, "program headers")
        (count,) = struct.unpack_from(order + "I", section, 44)
    if not count and sections_at:
        raise DumpError(
            f"{file.path} has its memory in sections, as Xen's `xl dump-core` writes it: use crash, which knows that"
        )
    if entry_size != _PROGRAM_HEADER_BYTES or not count:
        raise DumpError(f"{file.path} has a damaged ELF header: it describes no memory")
    table = file.read(table_at, _PROGRAM_HEADER_BYTES * count)
    if len(table) < _PROGRAM_HEADER_BYTES * count:
        raise cut_off(file, table_at + _PROGRAM_HEADER_BYTES * count, "program headers")
    return table
