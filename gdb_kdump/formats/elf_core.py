"""ELF dumps: /proc/vmcore, makedumpfile -E, QEMU's dump-guest-memory; their memory is read by physical address.

Not through libkdumpfile: 0.5.1 reads zeros wherever a segment has no data, or the file has none for it.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Mapping, Sequence

from gdb_kdump.errors import DumpError, Why
from gdb_kdump.formats.flattened import DumpFile
from gdb_kdump.formats.kdump import MOST_NOTES, cut_off, other_machine
from gdb_kdump.records.runs import Hole, Run

_NO_ADDRESS = (1 << 64) - 1
_ELF_MANY = 0xFFFF  # PN_XNUM: the number of program headers is in the first section header
_CORE, _LOAD, _NOTE = 4, 1, 4
_MACHINES = {
    3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 50: "ia64", 183: "aarch64", 243: "riscv64",
    258: "loongarch64",
}  # fmt: skip
"""By e_machine: EM_386, EM_MIPS, ..."""
_FLAG_INCOMPLETE = 0x1  # makedumpfile's DUMP_ELF_INCOMPLETE in e_flags


class ElfCore:
    """One 64-bit ELF core; raises DumpError when it is something else, or cut off before its memory begins."""

    def __init__(self, file: DumpFile, page_sizes: Mapping[int, int], machines: Sequence[str] = ()) -> None:
        """`page_sizes` are those (bytes) of the machines that can be read, by e_machine; `machines` their names."""
        self.file = file
        path = file.path
        head = file.read(0, 64)
        if len(head) < 64:
            raise cut_off(file, 64, "header")
        order = ">" if head[5] == 2 else "<"
        kind, self.machine = struct.unpack_from(order + "HH", head, 16)
        if kind != _CORE:
            raise DumpError(f"{path} is an ELF program or object (the vmlinux?), not a dump: name the vmcore first")
        if self.machine not in page_sizes:
            raise other_machine(file, _MACHINES.get(self.machine, f"ELF's machine {self.machine}"), machines)
        self.page_size = page_sizes[self.machine]
        if head[4] != 2:
            raise DumpError(f"{path} has 32-bit ELF headers (kexec --elf32-core-headers?): use crash, which knows them")
        table_at, sections_at = struct.unpack_from(order + "QQ", head, 32)
        flags, _, entry_size, count = struct.unpack_from(order + "IHHH", head, 48)
        if count == _ELF_MANY:
            section = file.read(sections_at, 64)
            if len(section) < 64:
                raise cut_off(file, sections_at + 64, "program headers")
            (count,) = struct.unpack_from(order + "I", section, 44)
        if not count and sections_at:
            raise DumpError(
                f"{path} has its memory in sections, as Xen's `xl dump-core` writes it: use crash, which knows that"
            )
        if entry_size != 56 or not count:
            raise DumpError(f"{path} has a damaged ELF header: it describes no memory")
        self.incomplete = bool(flags & _FLAG_INCOMPLETE)
        """makedumpfile marked the file: it ran out of space, or reached the size that it was given (-L)."""
        table = file.read(table_at, 56 * count)
        if len(table) < 56 * count:
            raise cut_off(file, table_at + 56 * count, "program headers")
        self.notes = b""
        self.mapped: list[tuple[int, int]] = []
        """The virtual and physical addresses of the segments that have both."""
        segments = []
        self.by_address = True
        """Whether the segments say where in physical memory they are (/proc/kcore's do not)."""
        described = lost = missing = 0
        for kind, _, offset, virtual, physical, length, _, _ in struct.iter_unpack(order + "IIQQQQQQ", table):
            if kind == _NOTE:
                if not file.has(offset, length):
                    raise cut_off(file, offset + length, "notes")
                self.notes += file.read(offset, min(length, MOST_NOTES - len(self.notes)))
            if kind == _LOAD and length:
                segments.append((physical, offset, length))
                self.by_address &= physical != _NO_ADDRESS
                described += length
                gone = file.missing(offset, offset + length)
                lost += -(-gone // self.page_size)
                missing += gone
                if physical != _NO_ADDRESS:
                    self.mapped.append((virtual, physical))
        self.pages, self.pages_lost = -(-described // self.page_size), lost
        self.bytes_missing = missing
        self._segments = sorted(segments)
        self._starts = [physical for physical, _, _ in self._segments]
        # Segments may overlap (the kernel image has one of its own): how far back can one reach?
        self._reach: list[int] = []
        furthest = 0
        for physical, _, length in self._segments:
            furthest = max(furthest, physical + length)
            self._reach.append(furthest)
        self.max_pfn = -(-furthest // self.page_size)

    def read(self, physical: int, size: int) -> list[Run]:
        """The bytes and holes at a physical address: TRUNCATED where the file ends, FILTERED where no segment is."""
        runs: list[Run] = []
        while size:
            found, length = self._find(physical, size)
            if isinstance(found, Why):
                runs.append(Hole(length, found))
            else:
                data = self.file.read(found, length)
                runs += [data] if len(data) == length else [data, Hole(length - len(data), Why.UNKNOWN)]
            physical += length
            size -= length
        self.file.check()
        return runs

    def _find(self, physical: int, size: int) -> tuple[int | Why, int]:
        """Where in the file the byte at `physical` is, or why it is not, and how far that goes.

        A page that the file has only the beginning of is missing, like a page of any other dump.
        """
        index = bisect_right(self._starts, physical) - 1
        # What begins later may end a hole, or hold what another segment has lost.
        following = self._starts[index + 1] - physical if index + 1 < len(self._starts) else size
        size = min(size, following)
        cut: int | None = None
        while index >= 0 and self._reach[index] > physical:
            start, offset, length = self._segments[index]
            within = min(size, start + length - physical)
            if within > 0:
                at = offset + physical - start
                last_page_ends = -(-(physical + within) // self.page_size) * self.page_size
                end = min(last_page_ends, start + length)
                if self.file.has(at, end - physical):
                    return at, within
                there = self._available(at, end - physical)
                if (physical + there) // self.page_size > physical // self.page_size:
                    return at, min(within, (physical + there) // self.page_size * self.page_size - physical)
                cut = min(within, self.page_size - physical % self.page_size, cut or within)
            index -= 1
        if cut is not None:
            return Why.TRUNCATED, cut
        # makedumpfile describes memory as it writes it: what comes after the last segment was still to be written.
        is_behind = self.incomplete and physical >= self.max_pfn * self.page_size
        return Why.TRUNCATED if is_behind else Why.FILTERED, size

    def _available(self, at: int, size: int) -> int:
        """How many of `size` bytes at `at` the file has, in one piece."""
        low, high = 0, size
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.file.has(at, middle) else (low, middle - 1)
        return low
