"""Writes small vmcores, kdump-compressed or ELF, with page tables that libkdumpfile can follow.

The kernel in them has three mappings: the direct map, the kernel image, and a vmalloc area that goes through 4 KiB
page table entries, so that a test can take a page table away.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

PAGE = 4096
DIRECT_MAP = 0xFFFF888000000000
IMAGE_MAP = 0xFFFFFFFF80000000
VMALLOC = 0xFFFFC90000000000
TOP_TABLE_PFN = 0x1002
_TABLE_PFN = 0x1003
_PRESENT_WRITABLE = 0x63
_HUGE = 0x80
_SUB_HEADER_BLOCKS = 2

# x86-64 struct user_regs_struct, the order of pr_reg in NT_PRSTATUS.
PR_REG = (
    "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base "
    "ds es fs gs"
).split()


@dataclass
class Kernel:
    """Physical pages by PFN, registers by CPU, and what vmcoreinfo says."""

    pages: dict[int, bytes] = field(default_factory=dict)
    registers: list[dict[str, int]] = field(default_factory=list)
    vmcoreinfo: str = ""
    excluded: set[int] = field(default_factory=set)
    max_pfn: int = 0x2000
    phys_base: int = 0


def text_page(number: int) -> bytes:
    """A page whose every word says where it is, so that a page read from the wrong place shows."""
    return struct.pack("<512Q", *((number << 32) | word for word in range(512)))


def small_kernel(data_pages: int = 64, vmalloc_pages: int = 16, phys_base: int = 0) -> Kernel:
    """A kernel of `data_pages` at PFN 0x100 in the direct map and `vmalloc_pages` at PFN 0x200, mapped at VMALLOC.

    With KASLR `phys_base`, where the image lies less where it was linked for, may be negative.
    """
    kernel = Kernel(phys_base=phys_base)
    for index in range(data_pages):
        kernel.pages[0x100 + index] = text_page(0x100 + index)
    for index in range(vmalloc_pages):
        kernel.pages[0x200 + index] = text_page(0x200 + index)
    tables: dict[int, dict[int, int]] = {TOP_TABLE_PFN: {}}
    next_table = _TABLE_PFN

    def map_page(virtual: int, physical: int, huge: bool) -> None:
        nonlocal next_table
        table = TOP_TABLE_PFN
        for shift in (39, 30) if huge else (39, 30, 21):
            index = virtual >> shift & 511
            if index not in tables[table]:
                tables[next_table] = {}
                tables[table][index] = next_table * PAGE | _PRESENT_WRITABLE
                next_table += 1
            table = tables[table][index] // PAGE
        if huge:
            tables[table][virtual >> 21 & 511] = physical | _PRESENT_WRITABLE | _HUGE
        else:
            tables[table][virtual >> 12 & 511] = physical | _PRESENT_WRITABLE

    for physical in range(0, kernel.max_pfn * PAGE, 1 << 21):
        map_page(DIRECT_MAP + physical, physical, huge=True)
        map_page(IMAGE_MAP + physical - phys_base, physical, huge=True)
    for index in range(vmalloc_pages):
        map_page(VMALLOC + index * PAGE, (0x200 + index) * PAGE, huge=False)
    for pfn, entries in tables.items():
        kernel.pages[pfn] = struct.pack("<512Q", *(entries.get(index, 0) for index in range(512)))
    kernel.registers = [{name: (cpu << 32) + position for position, name in enumerate(PR_REG)} for cpu in range(2)]
    top_table = IMAGE_MAP + TOP_TABLE_PFN * PAGE - phys_base
    kernel.vmcoreinfo = (
        "OSRELEASE=6.1.0-synthetic\nBUILD-ID=0123456789abcdef0123456789abcdef01234567\nPAGESIZE=4096\n"
        f"SYMBOL(init_top_pgt)={top_table:x}\nSYMBOL(swapper_pg_dir)={top_table:x}\n"
        f"SYMBOL(_stext)={IMAGE_MAP + 0x1000000 - phys_base:x}\nNUMBER(phys_base)={phys_base}\n"
        "NUMBER(pgtable_l5_enabled)=0\nKERNELOFFSET=0\nNUMBER(KERNEL_IMAGE_SIZE)=1073741824\n"
    )
    return kernel


def _note(name: bytes, kind: int, body: bytes) -> bytes:
    return (
        struct.pack("<III", len(name) + 1, len(body), kind)
        + (name + b"\0").ljust((len(name) + 4) & ~3, b"\0")
        + body.ljust((len(body) + 3) & ~3, b"\0")
    )


def _notes(kernel: Kernel) -> tuple[bytes, int]:
    """The ELF notes and the offset of the vmcoreinfo text in them."""
    notes = b""
    for registers in kernel.registers:
        values = struct.pack("<27Q", *(registers[name] for name in PR_REG))
        notes += _note(b"CORE", 1, bytes(112) + values + bytes(8))
    text = kernel.vmcoreinfo.encode()
    offset = len(notes) + 12 + 12
    return notes + _note(b"VMCOREINFO", 0, text), offset


def write_kdump(path: Path, kernel: Kernel, *, compress: bool = False, status: int = 0) -> None:
    """Write `kernel` as makedumpfile would, header version 6."""
    bitmap_bytes = (kernel.max_pfn + 7) // 8
    bitmap_blocks = (bitmap_bytes + PAGE - 1) // PAGE
    present = bytearray(bitmap_blocks * PAGE)
    dumped = bytearray(bitmap_blocks * PAGE)
    for pfn in kernel.pages:
        present[pfn // 8] |= 1 << pfn % 8
        if pfn not in kernel.excluded:
            dumped[pfn // 8] |= 1 << pfn % 8
    notes, text_offset = _notes(kernel)
    header = struct.pack("<8si", b"KDUMP   ", 6)
    header += b"".join(part.ljust(65, b"\0") for part in (b"Linux", b"node", b"6.1.0-synthetic", b"#1", b"x86_64", b""))
    header = header.ljust(408, b"\0") + struct.pack(
        "<QQIiiIIIIIIi", 1700000000, 0, status | (1 if compress else 0), PAGE, _SUB_HEADER_BLOCKS, 2 * bitmap_blocks,
        kernel.max_pfn, 0, 0, 0, 0, len(kernel.registers),
    )  # fmt: skip
    notes_at = PAGE + 128
    sub_header = struct.pack(
        "<qiiQQQQQQQQQQQ", kernel.phys_base, 31, 0, 0, 0, notes_at + text_offset, len(kernel.vmcoreinfo), notes_at,
        len(notes), 0, 0, 0, 0, kernel.max_pfn,
    )  # fmt: skip
    head = header.ljust(PAGE, b"\0") + sub_header.ljust(128, b"\0") + notes
    assert len(head) <= (1 + _SUB_HEADER_BLOCKS) * PAGE
    head = head.ljust((1 + _SUB_HEADER_BLOCKS) * PAGE, b"\0")
    pages = [kernel.pages[pfn] for pfn in sorted(kernel.pages) if pfn not in kernel.excluded]
    stored = [(zlib.compress(page), 1) if compress else (page, 0) for page in pages]
    at = len(head) + 2 * bitmap_blocks * PAGE + 24 * len(pages)
    descriptors, data = b"", b""
    for body, flags in stored:
        descriptors += struct.pack("<QIIQ", at + len(data), len(body), flags, 0)
        data += body
    path.write_bytes(head + present + dumped + descriptors + data)


def write_elf(path: Path, kernel: Kernel) -> None:
    """Write `kernel` as an ELF core with one PT_LOAD per run of consecutive pages."""
    pfns = sorted(pfn for pfn in kernel.pages if pfn not in kernel.excluded)
    runs: list[list[int]] = []
    for pfn in pfns:
        if runs and runs[-1][-1] + 1 == pfn:
            runs[-1].append(pfn)
        else:
            runs.append([pfn])
    notes, _ = _notes(kernel)
    count = 1 + len(runs)
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = identity + struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0)
    notes_at = 64 + 56 * count
    at = (notes_at + len(notes) + PAGE - 1) & -PAGE
    segments = struct.pack("<IIQQQQQQ", 4, 0, notes_at, 0, 0, len(notes), len(notes), 0)
    data = b""
    for run in runs:
        size = len(run) * PAGE
        physical = run[0] * PAGE
        segments += struct.pack("<IIQQQQQQ", 1, 7, at + len(data), DIRECT_MAP + physical, physical, size, size, PAGE)
        data += b"".join(kernel.pages[pfn] for pfn in run)
    path.write_bytes((header + segments + notes).ljust(at, b"\0") + data)
