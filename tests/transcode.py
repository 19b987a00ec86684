"""Puts the memory of a real dump into other containers: `python3 transcode.py RAW CONTAINER OUT`.

RAW is an uncompressed kdump file (`makedumpfile -d 0`). CONTAINER is one of CONTAINERS: a compression method for the
pages of a kdump file, elf, or flattened.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import kdumpfile_writer
import page_compression

PAGE = kdumpfile_writer.PAGE
CONTAINERS = (*page_compression.METHODS, "elf", "flattened")


class RawDump:
    """The parts of an uncompressed kdump file."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        blocks, bitmap_blocks, max_pfn = struct.unpack_from("<iII", self.data, 432)
        self.descriptors_at = (1 + blocks + bitmap_blocks) * PAGE
        bitmap = self.data[self.descriptors_at - bitmap_blocks * PAGE // 2 : self.descriptors_at]
        self.pfns = [pfn for pfn in range(max_pfn) if bitmap[pfn >> 3] >> (pfn & 7) & 1]
        offset, size = struct.unpack_from("<QQ", self.data, PAGE + 48)
        self.notes = self.data[offset : offset + size]

    def pages(self) -> Iterator[tuple[int, bytes]]:
        """Page frame numbers and contents."""
        for index, pfn in enumerate(self.pfns):
            (at,) = struct.unpack_from("<Q", self.data, self.descriptors_at + 24 * index)
            yield pfn, self.data[at : at + PAGE]

    def write_kdump(self, path: Path, method: str) -> None:
        """A kdump file whose pages are stored by a method of page_compression."""
        head = bytearray(self.data[: self.descriptors_at])
        struct.pack_into("<I", head, 424, page_compression.METHODS[method][0])
        descriptors = bytearray()
        with path.open("wb") as file:
            at = self.descriptors_at + 24 * len(self.pfns)
            file.seek(at)
            for _, page in self.pages():
                body, flag = page_compression.compress(page, method)
                descriptors += struct.pack("<QIIQ", at, len(body), flag, 0)
                file.write(body)
                at += len(body)
            file.seek(0)
            file.write(head + descriptors)

    def write_elf(self, path: Path) -> None:
        """An ELF core with a segment for each run of pages, without virtual addresses."""
        runs: list[tuple[int, int]] = []
        for pfn in self.pfns:
            if runs and runs[-1][1] == pfn:
                runs[-1] = (runs[-1][0], pfn + 1)
            else:
                runs.append((pfn, pfn + 1))
        many = len(runs) + 1 >= 0xFFFF  # PN_XNUM
        assert not many, "more runs than program headers can be"
        notes_at = 64 + 56 * (1 + len(runs))
        at = notes_at + len(self.notes) + PAGE - 1 & -PAGE
        head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
        head += struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, 1 + len(runs), 0, 0, 0)
        head += struct.pack("<IIQQQQQQ", 4, 0, notes_at, 0, 0, len(self.notes), len(self.notes), 0)
        segments, start = bytearray(), at
        for first, end in runs:
            size = (end - first) * PAGE
            segments += struct.pack("<IIQQQQQQ", 1, 7, at, 0, first * PAGE, size, size, PAGE)
            at += size
        with path.open("wb") as file:
            file.write((head + segments + self.notes).ljust(start, b"\0"))
            file.writelines(page for _, page in self.pages())


def transcode(raw: RawDump, container: str, path: Path) -> None:
    """Write the memory of `raw` to `path` in one of CONTAINERS."""
    if container == "elf":
        raw.write_elf(path)
    elif container == "flattened":
        plain = path.with_name(f"{path.name}.plain")
        raw.write_kdump(plain, "zlib")
        kdumpfile_writer.flatten(plain, path, piece=0x10000)
        plain.unlink()
    else:
        raw.write_kdump(path, container)


if __name__ == "__main__":
    transcode(RawDump(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3]))
