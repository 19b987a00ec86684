"""The ELF notes of an x86_64 dump: the registers of each CPU, and VMCOREINFO.

libkdumpfile reads them too, but not in a kdump file of QEMU, whose header does not name a kernel.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_HEADER = struct.Struct("<III")  # Elf64_Nhdr: name size, descriptor size, type
_PRSTATUS = 1  # NT_PRSTATUS
_XEN_CRASH_INFO = 0x1000001  # XEN_ELFNOTE_CRASH_INFO of xen/include/public/elfnote.h
_PID = struct.Struct("<32xi")  # struct elf_prstatus
_REGISTERS = struct.Struct("<112x27Q")
# struct user_regs_struct of arch/x86/include/asm/user_64.h, by GDB's names.
_NAMES = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "orig_rax",
    "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
)  # fmt: skip


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


def cpu_registers(data: bytes) -> list[tuple[int, dict[str, int]]]:
    """Of each CPU that left a note, in order: the pid that ran there, and the registers by GDB's names."""
    return [
        (_PID.unpack_from(descriptor)[0], dict(zip(_NAMES, _REGISTERS.unpack_from(descriptor))))
        for name, kind, descriptor in _notes(data)
        if name == b"CORE" and kind == _PRSTATUS and len(descriptor) >= _REGISTERS.size
    ]


def vmcoreinfo(data: bytes) -> bytes | None:
    """The text of VMCOREINFO, or None."""
    found = (descriptor for name, _, descriptor in _notes(data) if name == b"VMCOREINFO")
    return next(found, None)


def is_of_xen(data: bytes) -> bool:
    """Whether the hypervisor Xen made the dump, when its host crashed: page tables hold machine addresses then."""
    return any(name == b"Xen" and kind == _XEN_CRASH_INFO for name, kind, _ in _notes(data))
