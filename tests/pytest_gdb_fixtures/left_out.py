"""A copy of a kdump file with some pages left out, just as makedumpfile leaves pages out.

Which pages an old makedumpfile takes for those of user space is a matter of chance: this is for the ones that matter.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterable
from pathlib import Path

_HEADER = 424  # offset of status, block_size, sub_hdr_size, bitmap_blocks in struct disk_dump_header; makedumpfile
_DESCRIPTOR = 24  # bytes of struct page_desc


def leave_out(vmcore: Path, copy: Path, pages: Iterable[int]) -> Path:
    """Write the copy without those pages (page frame numbers), each of which the dump must have."""
    shutil.copyfile(vmcore, copy)
    with copy.open("r+b") as file:
        file.seek(_HEADER)
        _, block, sub_blocks, bitmap_blocks = struct.unpack("<IiiI", file.read(16))
        bitmaps, size = (1 + sub_blocks) * block, bitmap_blocks * block // 2
        file.seek(bitmaps + size)  # the second one says what was dumped
        dumped = bytearray(file.read(size))
        first = bitmaps + 2 * size
        file.seek(first)
        descriptors = bytearray(file.read(_DESCRIPTOR * int.from_bytes(dumped, "little").bit_count()))
        for page in sorted(pages, reverse=True):
            byte, bit = divmod(page, 8)
            assert dumped[byte] & 1 << bit, f"page frame {page} is not in {vmcore}"
            before = int.from_bytes(dumped[:byte], "little").bit_count() + (dumped[byte] & (1 << bit) - 1).bit_count()
            del descriptors[before * _DESCRIPTOR : (before + 1) * _DESCRIPTOR]
            dumped[byte] &= ~(1 << bit)
        file.seek(bitmaps + size)
        file.write(dumped)
        file.seek(first)
        file.write(descriptors)
    return copy
