"""The ELF notes of a dump: the registers of each CPU, and VMCOREINFO.

libkdumpfile reads them too, but not in a kdump file of QEMU, whose header does not name a kernel.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

_HEADER = struct.Struct("<III")  # Elf64_Nhdr: name size, descriptor size, type
_PRSTATUS = 1  # NT_PRSTATUS
_XEN_CRASH_INFO = 0x1000001  # XEN_ELFNOTE_CRASH_INFO of xen/include/public/elfnote.h
_PID = struct.Struct("<32xi")  # struct elf_prstatus
_REGISTERS_AT = 112  # elf_prstatus.pr_reg on every 64-bit machine


def _notes(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
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


def cpu_registers(data: bytes, names: Sequence[str]) -> list[tuple[int, dict[str, int]]]:
    """Of each CPU that left a note, in order: the pid that ran there, and its registers.

    `names` are those of the words in elf_prstatus.pr_reg.
    """
    words = struct.Struct(f"<{_REGISTERS_AT}x{len(names)}Q")
    return [
        (_PID.unpack_from(descriptor)[0], dict(zip(names, words.unpack_from(descriptor))))
        for name, kind, descriptor in _notes(data)
        if name == b"CORE" and kind == _PRSTATUS and len(descriptor) >= words.size
    ]


def vmcoreinfo(data: bytes) -> bytes | None:
    """The text of VMCOREINFO, or None."""
    found = (descriptor for name, _, descriptor in _notes(data) if name == b"VMCOREINFO")
    return next(found, None)


def is_of_xen(data: bytes) -> bool:
    """Whether the hypervisor Xen made the dump, when its host crashed: page tables hold machine addresses then."""
    return any(name == b"Xen" and kind == _XEN_CRASH_INFO for name, kind, _ in _notes(data))
