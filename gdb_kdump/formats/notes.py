"""The ELF notes of a dump: the registers of each CPU, and VMCOREINFO.

libkdumpfile reads them too, but not in a kdump file of QEMU, whose header does not name a kernel.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_HEADER = struct.Struct("<III")  # Elf64_Nhdr: name size, descriptor size, type
_PRSTATUS = 1  # NT_PRSTATUS
_XEN_CRASH_INFO = 0x1000001  # XEN_ELFNOTE_CRASH_INFO of xen/include/public/elfnote.h
_PID = struct.Struct("<32xi")  # struct elf_prstatus
_REGISTERS_AT = 112  # elf_prstatus.pr_reg on every 64-bit machine
# VirtualBox's dumpvmcore, include/VBox/vmm/dbgfcorefmt.h.
_VIRTUALBOX, _VIRTUALBOX_CPU = (b"VBCORE", 0xB00), (b"VBCPU", 0xB01)  # NT_VBOXCORE, NT_VBOXCPU
_DESCRIPTOR = struct.Struct("<II")  # DBGFCOREDESCRIPTOR: magic, version
_DESCRIPTOR_MAGIC = 0xC01AC0DE
_RAW_CONTEXT = 0x00010000  # the version whose notes are a CPUMCTX, which differs from release to release


class CpuNote(NamedTuple):
    """What a CPU left, or a hypervisor found in it."""

    registers: dict[str, int]
    pid: int | None
    """The PID that ran there, None where the note does not say."""
    number: int | None
    """The hypervisor's number of the CPU, from 0 on; None in a note that the kernel wrote, which has no number."""


class Field(NamedTuple):
    """Where a register stands in a hypervisor's struct: offset and size in bytes."""

    name: str
    offset: int
    size: int


def for_each_note(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """Name, type and descriptor of each note, as far as they are sound."""
    at = 0
    while at + _HEADER.size <= len(data):
        name_size, size, kind = _HEADER.unpack_from(data, at)
        name_at = at + _HEADER.size
        descriptor_at = name_at + (name_size + 3 & ~3)
        at = descriptor_at + (size + 3 & ~3)
        if descriptor_at + size > len(data):
            return
        yield data[name_at : name_at + name_size].rstrip(b"\0"), kind, data[descriptor_at : descriptor_at + size]


def cpu_notes(
    data: bytes, names: Sequence[str], qemu: Sequence[Field] = (), virtualbox: Sequence[Field] = ()
) -> list[CpuNote]:
    """What the notes have of each CPU, in their order.

    `names` are those of the words in elf_prstatus.pr_reg, `qemu` what a QEMUCPUState has besides, `virtualbox` the
    registers in a DBGFCORECPU.

    Traps: QEMU writes NT_PRSTATUS as the kernel does, of all its CPUs, with cpu_index + 1 for a PID; what tells them
    apart are its own notes, which come after those.  dump/dump.c: write_elf64_notes, hw/core/cpu-common.c.
    """
    words = struct.Struct(f"<{_REGISTERS_AT}x{len(names)}Q")
    notes = list(for_each_note(data))
    states = [descriptor for name, _, descriptor in notes if name == b"QEMU"]
    cpus: list[CpuNote] = []
    for name, kind, descriptor in notes:
        if name == b"CORE" and kind == _PRSTATUS and len(descriptor) >= words.size:
            registers = dict(zip(names, words.unpack_from(descriptor)))
            (pid,) = _PID.unpack_from(descriptor)
            if states:
                state = states[len(cpus)] if len(cpus) < len(states) else b""
                cpus.append(CpuNote({**registers, **_fields(state, qemu)}, None, pid - 1))
            else:
                cpus.append(CpuNote(registers, pid, None))
    return cpus or _virtualbox_cpus(notes, virtualbox)


def _virtualbox_cpus(notes: Sequence[tuple[bytes, int, bytes]], fields: Sequence[Field]) -> list[CpuNote]:
    """One note of each CPU, in the order of their numbers."""
    described = (note for name, kind, note in notes if (name, kind) == _VIRTUALBOX and len(note) >= _DESCRIPTOR.size)
    magic, version = next(map(_DESCRIPTOR.unpack_from, described), (0, 0))
    if magic != _DESCRIPTOR_MAGIC or version <= _RAW_CONTEXT:
        return []
    of_cpus = [note for name, kind, note in notes if (name, kind) == _VIRTUALBOX_CPU]
    return [
        CpuNote(registers, None, number)
        for number, note in enumerate(of_cpus)
        if len(registers := _fields(note, fields)) == len(fields)
    ]


def _fields(note: bytes, fields: Sequence[Field]) -> dict[str, int]:
    """Those of the registers that a struct is long enough for."""
    return {
        name: int.from_bytes(note[offset : offset + size], "little")
        for name, offset, size in fields
        if offset + size <= len(note)
    }


def vmcoreinfo(data: bytes) -> bytes | None:
    """The text of VMCOREINFO, or None."""
    found = (descriptor for name, _, descriptor in for_each_note(data) if name == b"VMCOREINFO")
    return next(found, None)


def is_of_xen(data: bytes) -> bool:
    """Whether the hypervisor Xen made the dump, when its host crashed: page tables hold machine addresses then."""
    return any(name == b"Xen" and kind == _XEN_CRASH_INFO for name, kind, _ in for_each_note(data))
