"""ELF dumps: /proc/vmcore, makedumpfile -E, QEMU's dump-guest-memory; their memory is read by physical address."""

from __future__ import annotations

import struct
from collections.abc import Container, Mapping, Sequence

from gdb_kdump.errors import DumpError
from gdb_kdump.formats.flattened import DumpFile
from gdb_kdump.formats.kdump_header import MOST_NOTES, cut_off, other_machine
from gdb_kdump.formats.segments import Segment, Segments

_ELF_MANY = 0xFFFF  # PN_XNUM: the number of program headers is in the first section header
_HEADER_BYTES, _PROGRAM_HEADER_BYTES, _SECTION_BYTES = 64, 56, 64
_CORE, _LOAD, _NOTE = 4, 1, 4
_MACHINES = {
    3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 50: "ia64", 183: "aarch64", 243: "riscv64",
    258: "loongarch64",
}  # fmt: skip
"""By e_machine: EM_386, EM_MIPS, ..."""
_FLAG_INCOMPLETE = 0x1  # makedumpfile's DUMP_ELF_INCOMPLETE in e_flags


class ElfCore(Segments):
    """One 64-bit ELF core; raises DumpError when it is something else, or cut off before its memory begins."""

    def __init__(self, file: DumpFile, page_sizes: Mapping[int, int], machines: Sequence[str] = ()) -> None:
        """`page_sizes` are those (bytes) of the machines that can be read, by e_machine; `machines` their names."""
        self.file = file
        head = file.read(0, _HEADER_BYTES)
        if len(head) < _HEADER_BYTES:
            raise cut_off(file, _HEADER_BYTES, "header")
        order = ">" if head[5] == 2 else "<"
        machine = _machine(file, head, order, page_sizes, machines)
        (flags,) = struct.unpack_from(order + "I", head, 48)
        self.incomplete = bool(flags & _FLAG_INCOMPLETE)
        segments: list[Segment] = []
        for segment_type, _, offset, virtual, physical, size, _, _ in struct.iter_unpack(
            order + "IIQQQQQQ", _program_headers(file, head, order)
        ):
            if segment_type == _NOTE:
                self._add_notes(offset, size)
            if segment_type == _LOAD and size:
                segments.append(Segment(physical, offset, size, virtual))
        super().__init__(file, segments, page_sizes[machine], machine, "ELF64 dump")

    def _add_notes(self, offset: int, size: int) -> None:
        if not self.file.has(offset, size):
            raise cut_off(self.file, offset + size, "notes")
        self.notes += self.file.read(offset, min(size, MOST_NOTES - len(self.notes)))


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
