"""Memory that says nothing of itself: LiME's ranges, and raw files with and without the hole below 4 GiB."""

from __future__ import annotations

import struct
from pathlib import Path

import kdumpfile_writer as writer
import pytest
from memory_image_writer import (
    BANNER,
    DIRECT_MAP,
    FOUR_GIB,
    HIGH,
    KASLR,
    PAGE,
    silent_kernel,
    symbols,
    write_lime,
    write_raw,
)

from gdb_kdump.channel.client import Server
from gdb_kdump.errors import DumpError, Why
from gdb_kdump.memory import Memory


def find(server: Server, kernel: writer.Kernel) -> Memory:
    assert server.find_kernel(BANNER, symbols(), None) == KASLR
    memory = Memory(server)
    for number, page in kernel.pages.items():
        assert memory.read(DIRECT_MAP + number * PAGE, PAGE) == bytes(page), f"page {number:#x}"
    return memory


def test_raw_memory(tmp_path: Path) -> None:
    path, size = tmp_path / "memory", 0x1010 * PAGE
    kernel = silent_kernel(0x1010)
    write_raw(path, kernel, size)
    with Server.start(str(path), memory="raw") as server:
        info = server.info()
        assert (info.format, info.translates, info.registers, info.max_pfn) == ("raw memory", False, [], 0x1010)
        memory = find(server, kernel)
        assert memory.read(DIRECT_MAP + 0xF00 * PAGE, 8) == bytes(8)  # the file has it
        assert memory.read_prefix(DIRECT_MAP + 0x1010 * PAGE, 8)[1] is not None


@pytest.mark.parametrize("hole", [0xC0000000, 0xD0000000, 0x80000000])
def test_the_hole_is_found_by_what_the_kernel_counts(tmp_path: Path, hole: int) -> None:
    path = tmp_path / "memory"
    kernel = silent_kernel(FOUR_GIB // PAGE + HIGH, high=True)
    write_raw(path, kernel, hole + HIGH * PAGE, hole)
    with Server.start(str(path), memory="raw") as server:
        assert server.info().max_pfn >= FOUR_GIB // PAGE + HIGH
        memory = find(server, kernel)
        assert memory.read_prefix(DIRECT_MAP + hole, 8)[1] is not None


def test_a_hole_of_no_usual_size_must_be_named(tmp_path: Path) -> None:
    path, hole = tmp_path / "memory", 0x90000000
    kernel = silent_kernel(FOUR_GIB // PAGE + HIGH, high=True)
    write_raw(path, kernel, hole + HIGH * PAGE, hole)
    with Server.start(str(path), memory="raw") as server, pytest.raises(DumpError, match="not as much memory.*--hole"):
        server.find_kernel(BANNER, symbols(), None)
    with Server.start(str(path), memory=f"raw {hole} {FOUR_GIB}") as server:
        find(server, kernel)
    for wrong in (f"raw {FOUR_GIB} {hole}", "raw 100 4096", f"raw {hole} {1 << 60}"):
        with pytest.raises(DumpError, match="--hole .* is none"):
            Server.start(str(path), memory=wrong)


def test_a_file_of_something_else_is_no_memory_of_a_kernel(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    write_raw(path, writer.small_kernel(), 0x1010 * PAGE)
    with pytest.raises(DumpError, match="no kernel dump of a known form.*name the vmlinux, too"):
        Server.start(str(path))
    missing = pytest.raises(DumpError, match="as memory .raw memory. it has not the kernel of this vmlinux")
    with Server.start(str(path), memory="raw") as server, missing:
        server.find_kernel(BANNER, symbols(), None)


def test_lime(tmp_path: Path) -> None:
    path, kernel = tmp_path / "memory.lime", silent_kernel(FOUR_GIB // PAGE + HIGH, high=True)
    write_lime(path, kernel)
    with Server.start(str(path)) as server:
        assert server.info().format == "LiME" and not server.info().translates
        memory = find(server, kernel)
        absent = next(number for number in range(1 << 20) if number not in kernel.pages)
        assert memory.read_prefix(DIRECT_MAP + absent * PAGE, 8) == (b"", Why.FILTERED)


def test_lime_whose_last_range_claims_a_petabyte(tmp_path: Path) -> None:
    """The kernel is looked for where the file has memory, not wherever a damaged header says that there is some."""
    path, kernel = tmp_path / "memory.lime", silent_kernel(FOUR_GIB // PAGE + HIGH, high=True)
    write_lime(path, kernel)
    with path.open("ab") as file:
        file.write(struct.pack("<4sIQQ8x", b"EMiL", 1, 1 << 51, (1 << 52) - 1) + bytes(PAGE))
    with Server.start(str(path)) as server:
        assert "truncated" in server.info().report.sentence
        find(server, kernel)


def test_lime_that_is_cut_off_or_damaged(tmp_path: Path) -> None:
    path, kernel = tmp_path / "memory.lime", silent_kernel(FOUR_GIB // PAGE + HIGH, high=True)
    headers = write_lime(path, kernel)
    data = path.read_bytes()
    path.write_bytes(data[: -3 * PAGE])
    with Server.start(str(path)) as server:
        assert server.info().report.pages_missing == 3 and "truncated" in server.info().report.sentence
    assert len(headers) > 2
    second = headers[1][0]
    for at, wrong in ((0, b"LiME"), (4, struct.pack("<I", 9)), (8, b"\xff" * 8), (16, bytes(8))):
        path.write_bytes(data[: second + at] + wrong + data[second + at + len(wrong) :])
        with pytest.raises(DumpError, match=f"a LiME file that is damaged at byte {second:,}"):
            Server.start(str(path))
    path.write_bytes(data[:20])
    with pytest.raises(DumpError, match="ends before its first range"):
        Server.start(str(path))
