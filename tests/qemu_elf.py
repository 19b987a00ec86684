"""An ELF dump of QEMU with other notes: its own changed, or those that VirtualBox writes of the same CPUs."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

HEADER, PROGRAM_HEADER = 64, struct.Struct("<IIQQQQQQ")
NOTE, LOAD = 4, 1
# QEMUCPUState of target/i386/arch_dump.c: 18 registers after version and size, then selectors.
QEMU_REGISTERS = struct.Struct("<8x18Q")
QEMU_NAMES = (
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip",
    "rflags",
)  # fmt: skip
QEMU_SEGMENTS = struct.Struct("<IIIIQ")  # selector, limit, flags, pad, base
SEGMENTS = 6  # cs, ds, es, fs, gs, ss, in both
VIRTUALBOX_NAMES = (
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rsp", "rbp",
    "rflags",
)  # fmt: skip
VIRTUALBOX_SEGMENT = struct.Struct("<QIIHHI")  # DBGFCORESEL: base, limit, attributes, selector, reserved
QEMU_KERNEL_GS_BASE, VIRTUALBOX_KERNEL_GS_BASE = 432, 536
DBGFCORECPU = 0x2F50  # about as large as with the extended state that follows


class Note(NamedTuple):
    name: bytes
    kind: int
    descriptor: bytes


class QemuElf:
    """What is in an ELF dump of QEMU."""

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        (count,) = struct.unpack_from("<H", self._data, 56)
        (table_at,) = struct.unpack_from("<Q", self._data, 32)
        headers = [PROGRAM_HEADER.unpack_from(self._data, table_at + 56 * number) for number in range(count)]
        self._loads = [header for header in headers if header[0] == LOAD]
        (notes,) = [header for header in headers if header[0] == NOTE]
        self.notes = [*_notes(self._data[notes[2] : notes[2] + notes[5]])]

    def write(self, path: Path, notes: Iterable[Note], pack: Callable[[Note], bytes] | None = None) -> Path:
        """The same memory with other notes, after one another as QEMU or as VirtualBox packs them."""
        body = b"".join(map(pack or packed, notes))
        notes_at = HEADER + PROGRAM_HEADER.size * (1 + len(self._loads))
        at = notes_at + len(body)
        head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
        head += struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, HEADER, 0, 0, HEADER, 56, 1 + len(self._loads), 0, 0, 0)
        head += PROGRAM_HEADER.pack(NOTE, 0, notes_at, 0, 0, len(body), len(body), 0)
        for _, flags, _, _, physical, size, _, _ in self._loads:
            head += PROGRAM_HEADER.pack(LOAD, flags, at, 0, physical, size, size, 0)
            at += size
        with path.open("wb") as file:
            file.write(head + body)
            for _, _, offset, _, _, size, _, _ in self._loads:
                file.write(memoryview(self._data)[offset : offset + size])
        return path

    def write_virtualbox(self, path: Path, version: int = 0x00010006) -> Path:
        """As `VBoxManage debugvm dumpvmcore` writes it; src/VBox/VMM/VMMR3/DBGFCoreWrite.cpp."""
        states = [note.descriptor for note in self.notes if note.name == b"QEMU"]
        assert states
        descriptor = struct.pack("<6I", 0xC01AC0DE, version, 24, 0x07000000, 1, len(states))
        notes = [Note(b"VBCORE", 0xB00, descriptor), *(Note(b"VBCPU", 0xB01, _virtualbox(state)) for state in states)]
        return self.write(path, notes, _packed_by_virtualbox)


def packed(note: Note) -> bytes:
    """A note as QEMU writes it: names with their NUL, everything padded to 4 bytes."""
    name = note.name + b"\0"
    head = struct.pack("<III", len(name), len(note.descriptor), note.kind)
    return head + name.ljust(-(-len(name) // 4) * 4, b"\0") + note.descriptor.ljust(-(-len(note.descriptor) // 4) * 4)


def _packed_by_virtualbox(note: Note) -> bytes:
    """Names without their NUL in the size, but in the file, and padded to 8 bytes."""
    head = struct.pack("<III", len(note.name), len(note.descriptor), note.kind)
    return head + (note.name + b"\0").ljust(8, b"\0") + note.descriptor


def _virtualbox(state: bytes) -> bytes:
    """The struct DBGFCORECPU of a CPU, from QEMU's own struct of it."""
    registers = dict(zip(QEMU_NAMES, QEMU_REGISTERS.unpack_from(state)))
    words = struct.pack("<18Q", *(registers[name] for name in VIRTUALBOX_NAMES))
    for number in range(SEGMENTS):
        at = QEMU_REGISTERS.size + QEMU_SEGMENTS.size * number
        selector, limit, flags, _, base = QEMU_SEGMENTS.unpack_from(state, at)
        words += VIRTUALBOX_SEGMENT.pack(base, limit, flags, selector, 0, 0)
    return (words.ljust(VIRTUALBOX_KERNEL_GS_BASE, b"\0") + state[QEMU_KERNEL_GS_BASE:][:8]).ljust(DBGFCORECPU, b"\0")


def _notes(data: bytes) -> Iterator[Note]:
    at = 0
    while at < len(data):
        name_size, size, kind = struct.unpack_from("<III", data, at)
        descriptor_at = at + 12 + (name_size + 3 & ~3)
        yield Note(data[at + 12 : at + 12 + name_size].rstrip(b"\0"), kind, data[descriptor_at : descriptor_at + size])
        at = descriptor_at + (size + 3 & ~3)
