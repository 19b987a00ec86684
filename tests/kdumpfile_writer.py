"""Writes small vmcores, kdump-compressed or ELF, with page tables that libkdumpfile can follow.

The kernel in them has three mappings: the direct map, the kernel image, and a vmalloc area that goes through 4 KiB
page table entries, so that a test can take a page table away.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from pathlib import Path

import page_compression
from page_compression import METHODS

PAGE = 4096
DIRECT_MAP = 0xFFFF888000000000
IMAGE_MAP = 0xFFFFFFFF80000000
VMALLOC = 0xFFFFC90000000000
TOP_TABLE_PFN = 0x1002
_TABLE_PFN = 0x1003
_PRESENT_WRITABLE = 0x63
_HUGE = 0x80

# x86-64 struct user_regs_struct, the order of pr_reg in NT_PRSTATUS.
PR_REG = (
    "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base "
    "ds es fs gs"
).split()


@dataclass
class Kernel:
    """Physical pages by PFN, registers by CPU (and `pid`; what is absent is 0), and what vmcoreinfo says."""

    pages: dict[int, bytes | bytearray] = field(default_factory=dict)
    registers: list[dict[str, int]] = field(default_factory=list)
    vmcoreinfo: str = ""
    excluded: set[int] = field(default_factory=set)
    max_pfn: int = 0x2000
    phys_base: int = 0
    release: str = "6.1.0-synthetic"
    crash_time: int = 1700000000
    zeros: range = range(0)
    """Pages of zeros, in multiples of 8 and away from the others: one page in the file, as makedumpfile has it."""
    notes: bytes = b""
    """ELF notes beside those of the registers and VMCOREINFO."""


class PageTables:
    """Four levels of page tables: the topmost at page number `top`, the others from `first` on."""

    def __init__(self, first: int, top: int) -> None:
        self._next = first
        self._top = top
        self._entries: dict[int, dict[int, int]] = {top: {}}

    def map(self, addr: int, physical: int, *, huge: bool) -> None:
        """Map a page of 2 MiB or 4 KiB."""
        table = self._entries[self._top]
        for shift in (39, 30) if huge else (39, 30, 21):
            index = addr >> shift & 511
            if index not in table:
                table[index] = self._next * PAGE | _PRESENT_WRITABLE
                self._entries[self._next] = {}
                self._next += 1
            table = self._entries[table[index] // PAGE]
        shift, flags = (21, _HUGE) if huge else (12, 0)
        table[addr >> shift & 511] = physical | flags | _PRESENT_WRITABLE

    def pages(self) -> dict[int, bytes]:
        """The tables by physical page number."""
        return {
            number: struct.pack("<512Q", *(entries.get(index, 0) for index in range(512)))
            for number, entries in self._entries.items()
        }


def text_page(number: int) -> bytes:
    """A page whose every word says where it is, so that a page read from the wrong place shows."""
    return struct.pack("<512Q", *((number << 32) | word for word in range(512)))


_HIGH_PFN = 1 << 20


def small_kernel(data_pages: int = 64, vmalloc_pages: int = 16, phys_base: int = 0, high_pages: int = 0) -> Kernel:
    """A kernel of `data_pages` at PFN 0x100 in the direct map and `vmalloc_pages` at PFN 0x200, mapped at VMALLOC.

    `high_pages`, at most 512, are from 4 GiB on.
    With KASLR `phys_base`, where the image lies less where it was linked for, may be negative.
    """
    kernel = Kernel(phys_base=phys_base)
    for index in range(data_pages):
        kernel.pages[0x100 + index] = text_page(0x100 + index)
    for index in range(vmalloc_pages):
        kernel.pages[0x200 + index] = text_page(0x200 + index)
    tables = PageTables(_TABLE_PFN, TOP_TABLE_PFN)
    for physical in range(0, kernel.max_pfn * PAGE, 1 << 21):
        tables.map(DIRECT_MAP + physical, physical, huge=True)
        tables.map(IMAGE_MAP + physical - phys_base, physical, huge=True)
    if high_pages:
        tables.map(DIRECT_MAP + _HIGH_PFN * PAGE, _HIGH_PFN * PAGE, huge=True)
    for index in range(high_pages):
        kernel.pages[_HIGH_PFN + index] = text_page(_HIGH_PFN + index)
    for index in range(vmalloc_pages):
        tables.map(VMALLOC + index * PAGE, (0x200 + index) * PAGE, huge=False)
    kernel.pages.update(tables.pages())
    kernel.registers = [{name: (cpu << 32) + position for position, name in enumerate(PR_REG)} for cpu in range(2)]
    top_table = IMAGE_MAP + TOP_TABLE_PFN * PAGE - phys_base
    kernel.vmcoreinfo = (
        "OSRELEASE=6.1.0-synthetic\nBUILD-ID=0123456789abcdef0123456789abcdef01234567\nPAGESIZE=4096\n"
        f"SYMBOL(init_top_pgt)={top_table:x}\nSYMBOL(swapper_pg_dir)={top_table:x}\n"
        f"SYMBOL(_stext)={IMAGE_MAP + 0x1000000 - phys_base:x}\nNUMBER(phys_base)={phys_base}\n"
        "NUMBER(pgtable_l5_enabled)=0\nKERNELOFFSET=0\nNUMBER(KERNEL_IMAGE_SIZE)=1073741824\n"
    )
    return kernel


def note(name: bytes, kind: int, body: bytes) -> bytes:
    return (
        struct.pack("<III", len(name) + 1, len(body), kind)
        + (name + b"\0").ljust((len(name) + 4) & ~3, b"\0")
        + body.ljust((len(body) + 3) & ~3, b"\0")
    )


def _notes(kernel: Kernel) -> tuple[bytes, int]:
    """The ELF notes and the offset of the vmcoreinfo text in them."""
    notes = kernel.notes
    for registers in kernel.registers:
        values = struct.pack("<27Q", *(registers.get(name, 0) & (1 << 64) - 1 for name in PR_REG))
        pid = struct.pack("<i", registers.get("pid", 0))
        notes += note(b"CORE", 1, bytes(32) + pid + bytes(76) + values + bytes(8))
    text = kernel.vmcoreinfo.encode()
    offset = len(notes) + 12 + 12
    return notes + note(b"VMCOREINFO", 0, text), offset


def write_kdump(
    path: Path, kernel: Kernel, *, compress: bool = False, method: str | None = None, status: int = 0, version: int = 6,
    span: tuple[int, int] | None = None,
) -> None:  # fmt: skip
    """Write `kernel` as makedumpfile would; `method` is one of page_compression.METHODS, `compress` means zlib.

    `version` is the header's, 3 to 6. With `span`, page frame numbers from and to before, it is a file of a split set.
    """
    method = method or ("zlib" if compress else "raw")
    bitmap_bytes = (kernel.max_pfn + 7) // 8
    release = kernel.release.encode()
    bitmap_blocks = (bitmap_bytes + PAGE - 1) // PAGE
    present = bytearray(bitmap_blocks * PAGE)
    dumped = bytearray(bitmap_blocks * PAGE)
    for pfn in kernel.pages:
        present[pfn // 8] |= 1 << pfn % 8
        if pfn not in kernel.excluded:
            dumped[pfn // 8] |= 1 << pfn % 8
    zeros = slice(kernel.zeros.start // 8, kernel.zeros.stop // 8)
    present[zeros] = dumped[zeros] = b"\xff" * (len(kernel.zeros) // 8)
    notes, text_offset = _notes(kernel)
    sub_header_blocks = (128 + len(notes) + PAGE - 1) // PAGE
    header = struct.pack("<8si", b"KDUMP   ", version)
    header += b"".join(part.ljust(65, b"\0") for part in (b"Linux", b"node", release, b"#1", b"x86_64", b""))
    header = header.ljust(408, b"\0") + struct.pack(
        "<QQIiiIIIIIIi", kernel.crash_time, 0, status | METHODS[method][0], PAGE, sub_header_blocks,
        2 * bitmap_blocks, kernel.max_pfn, 0, 0, 0, 0, len(kernel.registers),
    )  # fmt: skip
    notes_at = PAGE + 128
    first, end = span or (0, 0)
    sub_header = struct.pack("<qiiQQ", kernel.phys_base, 31, span is not None, first, end)
    sub_header += struct.pack("<QQ", notes_at + text_offset, len(kernel.vmcoreinfo))
    if version >= 4:
        sub_header += struct.pack("<QQ", notes_at, len(notes))
    if version >= 5:
        sub_header += struct.pack("<QQ", 0, 0)  # eraseinfo
    if version >= 6:
        sub_header += struct.pack("<QQQ", first, end, kernel.max_pfn)
    head = header.ljust(PAGE, b"\0") + sub_header.ljust(128, b"\0") + notes
    head = head.ljust((1 + sub_header_blocks) * PAGE, b"\0")
    pfns = [pfn for pfn in sorted(kernel.pages) if pfn not in kernel.excluded and (not span or first <= pfn < end)]
    at = len(head) + 2 * bitmap_blocks * PAGE + 24 * (len(pfns) + len(kernel.zeros))
    with path.open("wb") as file:
        file.write(head + present + dumped)
        file.seek(at)
        body, flags = page_compression.compress(bytes(PAGE), method)
        zeros_descriptor = struct.pack("<QIIQ", at, len(body), flags, 0)
        if kernel.zeros:  # before the others, as makedumpfile has it
            file.write(body)
            at += len(body)
        descriptors, split_at = bytearray(), 24 * sum(pfn < kernel.zeros.start for pfn in pfns)
        for pfn in pfns:
            body, flags = page_compression.compress(bytes(kernel.pages[pfn]), method)
            descriptors += struct.pack("<QIIQ", at, len(body), flags, 0)
            file.write(body)
            at += len(body)
        file.seek(len(head) + 2 * bitmap_blocks * PAGE)
        file.write(descriptors[:split_at])
        for start in range(0, len(kernel.zeros), 1 << 20):
            file.write(zeros_descriptor * min(1 << 20, len(kernel.zeros) - start))
        file.write(descriptors[split_at:])


def write_split(path: Path, kernel: Kernel, ends: Sequence[int]) -> list[Path]:
    """Write `kernel` as `makedumpfile --split` would; `ends` are the page frame numbers before which the files end."""
    paths = []
    for number, (first, end) in enumerate(pairwise([0, *ends]), 1):
        paths.append(path.with_name(f"{path.name}.{number}"))
        write_kdump(paths[-1], kernel, method="zlib", span=(first, end))
    return paths


def flatten(plain: Path, flattened: Path, *, piece: int = 0x3000) -> None:
    """Write a dump in makedumpfile's flattened form: two places of it in turn, as descriptors and data are written.

    The first bytes are written twice: the last ones count.
    """
    data = plain.read_bytes()
    pieces = [(at, data[at : at + piece]) for at in range(0, len(data), piece)]
    near = max(1, min(len(pieces) - 1, 0x8000 // piece + 1))  # the headers come first, in order
    middle = (len(pieces) + near) // 2
    order = [
        *pieces[:near],
        *(one for pair in zip_longest(pieces[near:middle], pieces[middle:]) for one in pair if one),
    ]
    with flattened.open("wb") as file:
        file.write((b"makedumpfile".ljust(16, b"\0") + struct.pack(">qq", 1, 1)).ljust(4096, b"\0"))
        file.write(struct.pack(">qq", 0, 8) + bytes(8))
        for at, content in order:
            file.write(struct.pack(">qq", at, len(content)) + content)
        file.write(struct.pack(">qq", -1, -1))


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
