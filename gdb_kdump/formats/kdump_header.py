"""The header and the sub header of a kdump-compressed file; makedumpfile's diskdump_mod.h."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from gdb_kdump.errors import DumpError
from gdb_kdump.formats.flattened import DumpFile
from gdb_kdump.formats.notes import vmcoreinfo

MOST_NOTES = 64 << 20

_BLOCK_SIZES = tuple(1 << shift for shift in range(12, 17))
_LEAST_BLOCK = _BLOCK_SIZES[0]
_HEADER_BYTES = 464  # struct disk_dump_header of a 64-bit kernel
_SUB_HEADER_BYTES = 104
_STATUS_INCOMPLETE = 0x8  # makedumpfile's DUMP_DH_COMPRESSED_INCOMPLETE
_STATUS_KNOWN = 0x3F  # zlib, lzo, snappy, that one, DUMP_DH_EXCLUDED_VMEMMAP, zstd
_BLOBS = ((3, 32), (4, 48), (5, 64))
"""Since which version the sub header has, and where, offset and size (u64) of VMCOREINFO, of notes, of erased names."""
_UTSNAME = slice(12, 12 + 6 * 65)  # struct new_utsname: sysname, nodename, release, version, machine, domainname
_MACHINE = slice(12 + 4 * 65, 12 + 5 * 65)
_MACHINE_NAME = re.compile("[a-z][a-z0-9_]{1,15}")
_TIME_AT = 408  # struct timeval; a set's files have one, or those of the moments when each of them was begun
_SAME_SECONDS = 2


@dataclass(frozen=True)
class Header:
    """What the headers of one file say."""

    order: Literal["<", ">"]
    """The byte order, as struct has it."""
    machine: str
    """The kernel's name of the machine; empty where the dumper did not know."""
    block: int
    """Bytes of a page, and of what the headers count in."""
    bitmap_at: int
    bitmap_bytes: int
    """Where in the file the bitmaps are, and how large."""
    max_pfn: int
    narrow_max_pfn: int
    """The same in 32 bits, by which makedumpfile may have made the bitmaps."""
    unknown_flags: int
    """Flags of the header that are unknown here."""
    incomplete: bool
    """makedumpfile marked the file: it ran out of space, or reached the size that it was given (-L)."""
    split: bool
    """Whether this is one file of a set that `makedumpfile --split` wrote."""
    first: int
    end: int
    """The pages that this file is for: page frame numbers from `first` to before `end`."""
    notes: bytes
    """ELF notes; before version 4 there are none."""
    vmcoreinfo: bytes | None
    hidden_blobs: list[int]
    """Offsets of size fields (u64) to show to libkdumpfile as 0: it dies of a blob that lies outside the file, and
    refuses a dump whose VMCOREINFO has a damaged page size."""
    identity: bytes
    """A dump's own name, the same in all files of a set: machine, kernel, memory."""
    time: int
    """When it crashed, in seconds."""

    def is_of_one_dump(self, other: Header) -> bool:
        """Whether another file is of the same dump, as far as their headers tell."""
        return self.identity == other.identity and abs(self.time - other.time) <= _SAME_SECONDS

    @classmethod
    def parse(cls, file: DumpFile, machines: Sequence[str]) -> Header:
        """The headers of a file; raises DumpError when they are damaged, cut off, or of none of the `machines`."""
        head = file.read(0, _LEAST_BLOCK)
        if len(head) < _HEADER_BYTES:
            raise cut_off(file, _LEAST_BLOCK, "header")
        machine = _machine(file, head, machines)
        order: Literal["<", ">"] = "<" if struct.unpack_from("<i", head, 428)[0] in _BLOCK_SIZES else ">"
        status, block, sub_blocks, bitmap_blocks, narrow_max_pfn = struct.unpack_from(order + "IiiII", head, 424)
        if block not in _BLOCK_SIZES or sub_blocks < 0:
            raise DumpError(f"{file.path} has a damaged header: a block size of {block} bytes is impossible")
        (version,) = struct.unpack_from(order + "i", head, 8)
        sub = file.read(block, _SUB_HEADER_BYTES).ljust(_SUB_HEADER_BYTES, b"\0")
        (is_split,) = struct.unpack_from(order + "i", sub, 12)
        first, end = struct.unpack_from(order + "QQ", sub, 16)
        max_pfn = narrow_max_pfn
        if version >= 6:
            first, end, wide_max_pfn = struct.unpack_from(order + "QQQ", sub, 80)
            max_pfn = wide_max_pfn or narrow_max_pfn
        split = version >= 2 and bool(is_split)
        blobs = {since: struct.unpack_from(order + "QQ", sub, at) for since, at in _BLOBS}
        notes = _blob(file, *blobs[4]) if version >= 4 else b""
        text = (_blob(file, *blobs[3]) if version == 3 else b"") or vmcoreinfo(notes)
        (time,) = struct.unpack_from(order + "q", head, _TIME_AT)
        return cls(
            order=order,
            machine=machine,
            block=block,
            bitmap_at=(1 + sub_blocks) * block,
            bitmap_bytes=bitmap_blocks * block,
            max_pfn=max_pfn,
            narrow_max_pfn=narrow_max_pfn,
            unknown_flags=status & ~_STATUS_KNOWN,
            incomplete=bool(status & _STATUS_INCOMPLETE),
            split=split,
            first=first if split else 0,
            end=min(end, max_pfn) if split else max_pfn,
            notes=notes,
            vmcoreinfo=text,
            hidden_blobs=[
                block + at + 8
                for since, at in _BLOBS
                if version >= since and (_has_odd_page_size(text, block) or not file.has(*blobs[since]))
            ],
            identity=head[_UTSNAME] + struct.pack("<QQ", block, max_pfn),
            time=time,
        )


def _machine(file: DumpFile, head: bytes, machines: Sequence[str]) -> str:
    machine = head[_MACHINE].partition(b"\0")[0].decode(errors="replace")
    if machine and machine not in machines:  # 32-bit ones have other headers than those that are read here
        if not _MACHINE_NAME.fullmatch(machine):
            raise DumpError(f"{file.path} has a damaged header: no machine is called {machine!r}")
        raise other_machine(file, machine, machines)
    return machine


def _blob(file: DumpFile, offset: int, size: int) -> bytes:
    """Notes or a text, of a size that makes sense; empty where there are none."""
    return file.read(offset, size) if 0 < size <= MOST_NOTES else b""


def _has_odd_page_size(text: bytes | None, block: int) -> bool:
    """Whether a VMCOREINFO has another page size than the header."""
    right = f"PAGESIZE={block}".encode()
    return any(line.startswith(b"PAGESIZE") and line != right for line in (text or b"").split(b"\n"))


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
