"""Opening and reading dumps: what is there is read, what is not there has its reason, and nothing reads as zeros."""

from __future__ import annotations

import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import kdumpfile_writer as writer
import pytest

from gdb_kdump.arch.x86_64.direct_map import find_direct_map
from gdb_kdump.arch.x86_64.paging import PageTables
from gdb_kdump.channel.client import Server
from gdb_kdump.dump.preflight import examine
from gdb_kdump.errors import DumpError, Why
from gdb_kdump.memory import Memory
from gdb_kdump.records.dump_info import NamedFile
from gdb_kdump.records.runs import Hole

PAGE = writer.PAGE
FORMATS: dict[str, Callable[[Path, writer.Kernel], None]] = {
    "plain": writer.write_kdump,
    "zlib": lambda path, kernel: writer.write_kdump(path, kernel, compress=True),
    "elf": writer.write_elf,
}


@pytest.fixture
def kernel() -> writer.Kernel:
    kernel = writer.small_kernel()
    kernel.excluded = {0x105}
    return kernel


@pytest.fixture(params=sorted(FORMATS))
def dump(request: pytest.FixtureRequest, tmp_path: Path, kernel: writer.Kernel) -> Path:
    path = tmp_path / "vmcore"
    FORMATS[request.param](path, kernel)
    return path


def cut(path: Path, size: int) -> Path:
    short = path.with_name("short")
    short.write_bytes(path.read_bytes()[:size])
    return short


def test_what_the_dump_is(dump: Path, kernel: writer.Kernel) -> None:
    with Server.start(str(dump)) as server:
        info = server.info()
    assert info.release == "6.1.0-synthetic"
    assert info.vmcoreinfo == kernel.vmcoreinfo
    assert info.files == [NamedFile(str(dump), dump.stat().st_size)]
    assert info.report.pages_missing == 0
    assert info.report.sentence == ""
    assert info.cpus == 2
    assert info.registers[1]["rip"] == kernel.registers[1]["rip"]
    assert info.registers[0]["eflags"] == kernel.registers[0]["eflags"]


def test_every_page_is_read_where_it_is_mapped(dump: Path, kernel: writer.Kernel) -> None:
    with Server.start(str(dump)) as server:
        memory = Memory(server)
        for pfn in set(kernel.pages) - kernel.excluded:
            assert memory.read(writer.DIRECT_MAP + pfn * PAGE, PAGE) == kernel.pages[pfn]
        for index in range(16):
            assert memory.read(writer.VMALLOC + index * PAGE, PAGE) == kernel.pages[0x200 + index]
        assert memory.read(writer.IMAGE_MAP + 0x100FF8, 16) == kernel.pages[0x100][-8:] + kernel.pages[0x101][:8]


def test_what_is_not_there_has_its_reason(dump: Path) -> None:
    with Server.start(str(dump)) as server:
        memory = Memory(server)
        assert memory.why(writer.DIRECT_MAP + 0x105000) is Why.FILTERED
        assert memory.why(writer.VMALLOC + 16 * PAGE) is Why.UNMAPPED
        assert memory.why(0) is Why.UNMAPPED
        assert memory.why(0x0000900000000000) is Why.UNMAPPED  # not canonical
        assert memory.why((1 << 64) - 1) is Why.UNMAPPED
        data, why = memory.read_prefix(writer.DIRECT_MAP + 0x104FF0, 64)
        assert (len(data), why) == (16, Why.FILTERED)


@pytest.mark.parametrize("percent", [10, 25, 40, 60, 75, 90, 97])
def test_a_page_past_the_end_is_truncated_and_never_zeros(dump: Path, kernel: writer.Kernel, percent: int) -> None:
    short = cut(dump, dump.stat().st_size * percent // 100)
    try:
        server = Server.start(str(short))
    except DumpError as refusal:
        assert "truncated" in str(refusal) and percent <= 25
        return
    with server:
        report = server.info().report
        assert 0 < report.pages_missing <= report.pages == len(kernel.pages) - 1
        bytes_missing = dump.stat().st_size - short.stat().st_size
        if "at least" in report.sentence:  # some descriptors are missing too
            assert 0 < report.bytes_missing < bytes_missing and percent < 40
        else:
            assert report.bytes_missing == bytes_missing
        assert f"{report.pages_missing:,} of {report.pages:,} pages are missing" in report.sentence
        server.set_direct_map(writer.DIRECT_MAP)
        memory, found, lost = Memory(server), 0, 0
        for pfn in kernel.pages:
            data, why = memory.read_prefix(writer.DIRECT_MAP + pfn * PAGE, PAGE)
            if why is None:
                assert data == kernel.pages[pfn]
                found += 1
            elif pfn in kernel.excluded:
                assert why is Why.FILTERED
            else:
                assert (data, why) == (b"", Why.TRUNCATED)
                lost += 1
        assert lost == report.pages_missing and found == report.pages - lost


@pytest.mark.parametrize("phys_base", [0, 0x1000000, -0x1000000])
@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_a_lost_page_table_is_truncated_and_not_unmapped(
    tmp_path: Path, write: Callable[[Path, writer.Kernel], None], phys_base: int
) -> None:
    kernel = writer.small_kernel(phys_base=phys_base)
    dump = tmp_path / "vmcore"
    write(dump, kernel)
    page = 0x100 if phys_base <= 0 else writer.TOP_TABLE_PFN  # one that lies in the image
    image = writer.IMAGE_MAP + page * PAGE - phys_base
    # The tables have the highest page numbers, so they are the last in the file.
    short = cut(dump, dump.stat().st_size - 2 * PAGE if dump.read_bytes()[:4] != b"KDUM" else _before_tables(dump))
    with Server.start(str(dump)) as server:
        assert Memory(server).read(image, PAGE) == kernel.pages[page]
    with Server.start(str(short)) as server:
        memory = Memory(server)
        assert memory.why(writer.VMALLOC) is Why.TRUNCATED
        assert memory.read(image, PAGE) == kernel.pages[page], "the image is found without tables"


def _before_tables(dump: Path) -> int:
    """The size that loses the last two page tables of a kdump-compressed file."""
    data = dump.read_bytes()
    blocks, bitmap_blocks = struct.unpack_from("<iI", data, 432)
    descriptors_at = (1 + blocks + bitmap_blocks) * PAGE
    (first_data,) = struct.unpack_from("<Q", data, descriptors_at)
    (offset,) = struct.unpack_from("<Q", data, first_data - 2 * 24)
    return int(offset)


def test_reading_at_random_does_not_end_the_server(tmp_path: Path) -> None:
    """libkdumpfile 0.5.1 dies (SIGSEGV) of failed reads once its page cache is full: more than 1024 pages."""
    kernel, source = writer.small_kernel(data_pages=3000), random.Random(1)
    kernel.excluded = set(source.sample(range(0x200, 0x100 + 3000), 500))
    path = tmp_path / "vmcore"
    writer.write_kdump(path, kernel, compress=True)
    data = bytearray(path.read_bytes())
    at = data.index(zlib.compress(kernel.pages[0x123], 1))
    data[at : at + 8] = bytes(8)
    path.write_bytes(data)
    with Server.start(str(path)) as server:
        for _ in range(20000):
            pfn = source.randrange(0x100, 0x100 + 3000)
            (found,) = server.read(writer.DIRECT_MAP + pfn * PAGE + 8, 8)
            if pfn == 0x123:
                assert found == Hole(8, Why.CORRUPT)
            else:
                assert found == (Hole(8, Why.FILTERED) if pfn in kernel.excluded else kernel.pages[pfn][8:16])


def test_damaged_data_is_corrupt(tmp_path: Path, kernel: writer.Kernel) -> None:
    path = tmp_path / "vmcore"
    writer.write_kdump(path, kernel, compress=True)
    data = bytearray(path.read_bytes())
    blocks, bitmap_blocks = struct.unpack_from("<iI", data, 432)
    (first_page,) = struct.unpack_from("<Q", data, (1 + blocks + bitmap_blocks) * PAGE)
    data[first_page : first_page + 16] = b"\xff" * 16
    path.write_bytes(data)
    with Server.start(str(path)) as server:
        memory = Memory(server)
        assert memory.why(writer.DIRECT_MAP + 0x100000) is Why.CORRUPT
        assert memory.why(writer.DIRECT_MAP + 0x101000) is None


def test_makedumpfile_ran_out_of_space(tmp_path: Path, kernel: writer.Kernel) -> None:
    path = tmp_path / "vmcore"
    writer.write_kdump(path, kernel, status=8)
    report = examine([str(path)]).report
    assert report.incomplete and "ran out of space" in report.sentence


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is empty"),
        (b"#!/bin/sh\necho hello\n", "is a text file"),
        (b"makedumpfile\0\0\0\0" + bytes(4096), "flattened dump that ends before"),
        (b"\x1f\x8b\x08\0" + bytes(4096), "gunzip"),
        (b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 2, 62) + bytes(4096), "not a dump"),
        (b"\x7fELF", "truncated"),
        (b"KDUMP   " + struct.pack("<i", 6), "truncated"),
        (b"KDUMP   " + bytes(8192), "damaged header"),
        (b"\0\1\2\3" * 4096, "no kernel dump"),
    ],
)
def test_what_is_no_dump_gets_one_clear_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DumpError, match=words) as refusal:
        Server.start(str(path))
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)


def test_any_file_name_will_do(tmp_path: Path, kernel: writer.Kernel) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a b\xff\n'\"<"))
    writer.write_kdump(path, kernel)
    with Server.start(str(path)) as server:
        assert server.info().files[0].path == str(path)
    path.write_bytes(b"")
    with pytest.raises(DumpError, match="is empty"):
        Server.start(str(path))


def test_places_where_no_dump_is(tmp_path: Path) -> None:
    with pytest.raises(DumpError, match="is a directory"):
        Server.start(str(tmp_path))
    with pytest.raises(DumpError, match="no such file"):
        Server.start(str(tmp_path / "absent"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DumpError, match="is not a file"):
        Server.start(str(tmp_path / "pipe"))


def empty_lists(base: int, pfn: int, *places: int) -> bytes:
    """A page with empty list_heads at some places, of a kernel that has the direct map at `base`."""
    page = bytearray(writer.text_page(pfn))
    for place in places:
        struct.pack_into("<QQ", page, place, *(2 * [base + pfn * PAGE + place]))
    return bytes(page)


@pytest.mark.parametrize("base", [0xFFFF888000000000, 0xFFFF9A3F40000000])
def test_a_dump_without_page_tables_tells_its_direct_map(tmp_path: Path, kernel: writer.Kernel, base: int) -> None:
    kernel.excluded = {0x105}
    for pfn in range(0x110, 0x130):
        kernel.pages[pfn] = empty_lists(base, pfn, 8 * (pfn % 32), 0xFF0)
    writer.write_kdump(tmp_path / "vmcore", kernel, compress=True)
    (kdump,) = examine([str(tmp_path / "vmcore")]).kdumps
    tables = kdump.extents(writer.TOP_TABLE_PFN * PAGE)
    assert not isinstance(tables, Why)
    with Server.start(str(cut(tmp_path / "vmcore", tables[1][0]))) as server:
        memory = Memory(server)
        assert memory.why(base + 0x100 * PAGE) is Why.TRUNCATED
        memory.clear()
        assert server.look_for_direct_map()
        assert memory.read(base + 0x110 * PAGE, PAGE) == kernel.pages[0x110]
        assert memory.why(base + 0x105 * PAGE) is Why.FILTERED
        assert memory.why(base + writer.TOP_TABLE_PFN * PAGE) is Why.TRUNCATED


def test_what_says_nothing_of_a_direct_map(tmp_path: Path, kernel: writer.Kernel) -> None:
    base, other = 0xFFFF888000000000, 0xFFFF888040000000
    few = [(pfn * PAGE, empty_lists(base, pfn, 64)) for pfn in range(15)]
    at_odds = [(pfn * PAGE, empty_lists(other if pfn % 4 else base, pfn, 64)) for pfn in range(200)]
    unaligned = [(pfn * PAGE, empty_lists(base + (1 << 21), pfn, 64)) for pfn in range(200)]
    for pages in ([], few, at_odds, unaligned):
        assert find_direct_map(pages) is None
    assert find_direct_map([*few, (99 * PAGE, empty_lists(base, 99, 0))]) == base
    writer.write_kdump(tmp_path / "vmcore", kernel)
    with Server.start(str(tmp_path / "vmcore")) as server:
        assert not server.look_for_direct_map()


def refusal(path: Path, data: bytes | bytearray) -> str:
    path.write_bytes(data)
    with pytest.raises(DumpError) as refused:
        Server.start(str(path))
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("machine", "name"),
    [(3, "i386"), (21, "ppc64"), (22, "s390x"), (183, "aarch64"), (243, "riscv64"), (1, "machine 1")],
)
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("size", [32, 64])
def test_an_elf_dump_of_another_machine_is_refused(
    tmp_path: Path, machine: int, name: str, order: str, size: int
) -> None:
    head = b"\x7fELF" + bytes((size // 32, "<>".index(order) + 1, 1)) + bytes(9)
    sentence = refusal(tmp_path / "vmcore", (head + struct.pack(order + "HHI", 4, machine, 1)).ljust(8192, b"\0"))
    assert f"a dump of {name}" in sentence.replace("ELF's ", "") and "only x86_64 dumps" in sentence


@pytest.mark.parametrize(("machine", "at"), [("i686", 420), ("armv7l", 420), ("s390x", 424), ("aarch64", 424)])
def test_a_kdump_of_another_machine_is_refused(tmp_path: Path, machine: str, at: int) -> None:
    head = bytearray(b"KDUMP   " + struct.pack("<i", 6) + bytes(4 * 65) + machine.encode()).ljust(8192, b"\0")
    struct.pack_into("<iiiIII", head, at, 0, PAGE, 1, 2, 64, 0)  # 32-bit machines: the same fields, 4 bytes earlier
    assert f"a dump of {machine}: only x86_64 dumps" in refusal(tmp_path / "vmcore", head)


def test_a_damaged_name_of_the_machine_is_no_machine(tmp_path: Path, kernel: writer.Kernel) -> None:
    writer.write_kdump(tmp_path / "vmcore", kernel)
    data = bytearray((tmp_path / "vmcore").read_bytes())
    data[12 + 4 * 65] ^= 0x80
    assert "damaged header: no machine is called" in refusal(tmp_path / "vmcore", data)


def test_what_other_tools_have_to_open_is_named(tmp_path: Path, kernel: writer.Kernel) -> None:
    path = tmp_path / "vmcore"
    writer.write_elf(path, kernel)
    plain = path.read_bytes()
    data = bytearray(plain)
    data[4] = 1
    assert "32-bit ELF headers" in refusal(path, data)
    data = bytearray(plain)
    struct.pack_into("<Q", data, 40, 64)  # e_shoff
    struct.pack_into("<H", data, 56, 0)  # e_phnum
    assert "xl dump-core" in refusal(path, data)
    for magic in (0xA8190173618F23ED.to_bytes(8, order) for order in ("little", "big")):
        assert "an LKCD dump" in refusal(path, magic + bytes(PAGE))
    for offset in (0, PAGE):  # a partition, a media backup
        assert "makedumpfile -x VMLINUX" in refusal(path, bytes(offset) + b"sadump\0\0" + bytes(2 * PAGE))
    assert "s390x" in refusal(path, bytes.fromhex("a8190173618f23fd") + bytes(2 * PAGE))


@pytest.mark.parametrize("write", [writer.write_elf, writer.write_kdump])
def test_a_dump_of_a_xen_host_is_refused(
    tmp_path: Path, kernel: writer.Kernel, write: Callable[[Path, writer.Kernel], None]
) -> None:
    path = tmp_path / "vmcore"
    kernel.notes = writer.note(b"Xen", 0x1000002, bytes(32)) + writer.note(b"Xen", 0x1000001, bytes(80))
    write(path, kernel)
    assert "a dump of a Xen host" in refusal(path, path.read_bytes())


def test_a_split_bitmap_counts_only_its_own_pages(tmp_path: Path, kernel: writer.Kernel) -> None:
    path = tmp_path / "vmcore"
    writer.write_kdump(path, kernel)
    data = bytearray(path.read_bytes())
    struct.pack_into("<i", data, PAGE + 12, 1)
    struct.pack_into("<QQ", data, PAGE + 80, 0x102, 0x110)
    path.write_bytes(data)
    assert examine([str(path)]).kdumps[0].pages == 0x110 - 0x102 - 1  # one of them is excluded


def test_five_levels_large_pages_and_encryption() -> None:
    secret = 1 << 47
    tables = {
        0x1000: {0x111: 0x2000},
        0x2000: {0x1: 0x3000},
        0x3000: {0x2: 0x4000, 0x3: 0x40000080},  # a 1 GiB page
        0x4000: {0x3: 0x5000, 0x4: 0x600080},  # a 2 MiB page
        0x5000: {0x5: 0x7000},
    }

    def read_page(physical: int) -> bytes:
        entries = tables[physical]
        return struct.pack("<512Q", *(entries[index] | secret | 1 if index in entries else 0 for index in range(512)))

    walk = PageTables(0x1000, 5, read_page, secret)
    base = 0xFF << 56 | 0x111 << 48 | 1 << 39
    assert walk.physical(base | 2 << 30 | 3 << 21 | 5 << 12 | 0x123) == 0x7123
    assert walk.physical(base | 2 << 30 | 4 << 21 | 0x12345) == 0x612345
    assert walk.physical(base | 3 << 30 | 0x1234567) == 0x41234567
    assert walk.physical(base | 2 << 30 | 3 << 21 | 6 << 12) is Why.UNMAPPED
    assert walk.physical(0x00FF << 48 | 0x111 << 48) is Why.UNMAPPED
