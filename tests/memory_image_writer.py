"""Writes the memory of a small kernel as it is: LiME's ranges, and raw files without the hole below 4 GiB."""

from __future__ import annotations

import struct
from pathlib import Path

import kdumpfile_writer as writer

PAGE, DIRECT_MAP = writer.PAGE, writer.DIRECT_MAP
BANNER = b"Linux version 6.1.0-synthetic (me@here) #1 SMP"
BANNER_AT, MAX_PFN_AT = 0x13E020, 0x13D100  # physical
KASLR = 0x1C00000
FOUR_GIB = 1 << 32
HIGH = 16  # pages above it


def symbols() -> dict[str, int]:
    linked = writer.IMAGE_MAP - KASLR
    return {
        "linux_banner": linked + BANNER_AT,
        "init_top_pgt": linked + writer.TOP_TABLE_PFN * PAGE,
        "max_pfn": linked + MAX_PFN_AT,
    }


def silent_kernel(max_pfn: int, high: bool = False) -> writer.Kernel:
    """A kernel that counts so much memory; with `high` there are pages above 4 GiB."""
    kernel = writer.small_kernel(high_pages=HIGH if high else 0)
    for at, data in ((BANNER_AT, BANNER), (MAX_PFN_AT, struct.pack("<Q", max_pfn))):
        page, offset = divmod(at, PAGE)
        kernel.pages[page] = kernel.pages[page][:offset] + data + kernel.pages[page][offset + len(data) :]
    return kernel


def write_raw(path: Path, kernel: writer.Kernel, size: int, hole: int = FOUR_GIB) -> None:
    """The memory in a sparse file; what lies above 4 GiB stands from `hole` on."""
    with path.open("wb") as file:
        file.truncate(size)
        for number, page in kernel.pages.items():
            at = number * PAGE
            file.seek(at if at < FOUR_GIB else at - FOUR_GIB + hole)
            file.write(page)


def write_lime(path: Path, kernel: writer.Kernel) -> list[tuple[int, int]]:
    """A range for each run of pages; returns where their headers are, and their sizes."""
    headers: list[tuple[int, int]] = []
    with path.open("wb") as file:
        numbers = sorted(kernel.pages)
        while numbers:
            run = [numbers.pop(0)]
            while numbers and numbers[0] == run[-1] + 1:
                run.append(numbers.pop(0))
            headers.append((file.tell(), len(run) * PAGE))
            file.write(struct.pack("<4sIQQ8x", b"EMiL", 1, run[0] * PAGE, (run[-1] + 1) * PAGE - 1))
            for number in run:
                file.write(kernel.pages[number])
    return headers
