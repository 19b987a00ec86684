"""Notes of CPUs: the kernel's own, QEMU's and VirtualBox's, and which of them have numbers."""

from __future__ import annotations

import struct

from qemu_elf import Note, packed

from gdb_kdump.arch.x86_64.registers import REGISTERS
from gdb_kdump.formats.notes import cpu_notes

NAMES, QEMU, VIRTUALBOX = REGISTERS.note, REGISTERS.qemu, REGISTERS.virtualbox


def prstatus(pid: int, pc: int) -> Note:
    words = [pc if name == "rip" else 0 for name in NAMES]
    return Note(b"CORE", 1, struct.pack(f"<32xi76x{len(words)}Q8x", pid, *words))


def virtualbox(version: int, *pcs: int) -> bytes:
    descriptor = struct.pack("<6I", 0xC01AC0DE, version, 24, 7, 1, len(pcs))
    cpus = [Note(b"VBCPU", 0xB01, struct.pack("<14QQ3Q", *[0] * 14, pc, 0, 0, 2).ljust(1024, b"\0")) for pc in pcs]
    return b"".join(map(packed, [Note(b"VBCORE", 0xB00, descriptor), *cpus]))


def test_the_kernels_notes_have_pids_and_no_numbers() -> None:
    notes = cpu_notes(packed(prstatus(7, 0x10)) + packed(prstatus(0, 0x20)), NAMES, QEMU, VIRTUALBOX)
    assert [(note.pid, note.number, note.registers["rip"]) for note in notes] == [(7, None, 0x10), (0, None, 0x20)]


def test_qemus_notes_have_numbers_and_no_pids() -> None:
    """Also where a CPU has been taken away: the others keep their numbers."""
    notes = [prstatus(1, 0x10), prstatus(4, 0x20), Note(b"QEMU", 0, bytes(440)), Note(b"QEMU", 0, bytes(440))]
    found = cpu_notes(b"".join(map(packed, notes)), NAMES, QEMU, VIRTUALBOX)
    assert [(note.pid, note.number, note.registers["rip"]) for note in found] == [(None, 0, 0x10), (None, 3, 0x20)]


def test_virtualboxs_notes_are_in_the_order_of_their_numbers() -> None:
    found = cpu_notes(virtualbox(0x00010006, 0x10, 0x20), NAMES, QEMU, VIRTUALBOX)
    assert [(note.pid, note.number, note.registers["rip"]) for note in found] == [(None, 0, 0x10), (None, 1, 0x20)]
    assert found[0].registers["eflags"] == 2
    assert found[0].registers["kernel_gs_base"] == 0
    assert cpu_notes(virtualbox(0x00010000, 0x10), NAMES, QEMU, VIRTUALBOX) == []
    assert cpu_notes(virtualbox(0x00010006, 0x10)[:200], NAMES, QEMU, VIRTUALBOX) == []
