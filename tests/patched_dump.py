"""Copies of a dump with damaged kernel memory: makedumpfile writes the pages uncompressed, and we write into them."""

from __future__ import annotations

import mmap
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kdumpfile  # type: ignore[import-untyped]

PAGE = 4096


class PatchedDump:
    """An uncompressed copy of a dump at `path`, to be written to by kernel virtual address."""

    def __init__(self, original: Path, path: Path) -> None:
        self.path = path
        command = ["makedumpfile", "-d", "0", str(original), str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def write(self, addr: int, data: bytes) -> None:
        """Replace the bytes at a virtual address, within one page."""
        assert addr % PAGE + len(data) <= PAGE
        with self._file() as file:
            at = self._page(file, addr) + addr % PAGE
            file[at : at + len(data)] = data

    def write_to_one_of_many(self, addr: int, data: bytes) -> None:
        """The same in a page that others have the contents of: each is tried until the address reads as it should."""
        page, at = self.read(addr & -PAGE, PAGE), 0
        with self._file() as file:
            while (at := file.find(page, at + 1)) > 0:
                place = at + addr % PAGE
                before, file[place : place + len(data)] = file[place : place + len(data)], data
                file.flush()
                if self.read(addr, len(data)) == data:
                    return
                file[place : place + len(data)] = before
        raise AssertionError(f"no page with the contents of {addr:#x}")

    def write_image(self, addr: int, data: bytes) -> None:
        """Replace bytes of the kernel's image, the pages of which follow each other in the file as well."""
        before = self.read(addr, len(data))
        with self._file() as file:
            at = self._page(file, addr) + addr % PAGE
            assert file[at : at + len(data)] == before, "pages of the image are not in the dump"
            file[at : at + len(data)] = data

    def write_words(self, addr: int, *words: int) -> None:
        """Replace u64s at a virtual address, within one page."""
        self.write(addr, struct.pack(f"<{len(words)}Q", *words))

    def lose(self, addr: int) -> None:
        """Make the page of a virtual address one whose data lies behind the end of the file."""
        with self._file() as file:
            at = self._page(file, addr)
            descriptor = file.find(struct.pack("<QI", at, PAGE))
            assert 0 < descriptor < at
            file[descriptor : descriptor + 8] = struct.pack("<Q", len(file) + PAGE)

    def read(self, addr: int, size: int) -> bytes:
        """The bytes at a virtual address."""
        dump = kdumpfile.kdumpfile(file=str(self.path))
        dump.attr["file.mmap_policy"] = 0
        dump.attr["addrxlat.ostype"] = "linux"
        return bytes(dump.read(kdumpfile.KDUMP_KVADDR, addr, size))

    def _page(self, file: mmap.mmap, addr: int) -> int:
        """Where in the file a page stands: it is looked for by what it holds."""
        page = self.read(addr & -PAGE, PAGE)
        at = file.find(page)
        assert at > 0, f"no page with the contents of {addr:#x}"
        assert file.find(page, at + 1) < 0, f"several pages have the contents of {addr:#x}"
        return at

    @contextmanager
    def _file(self) -> Iterator[mmap.mmap]:
        with self.path.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as file:
            yield file
