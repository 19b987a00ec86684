"""One memory in every container that a dump can come in: every page has the same bytes, or a reason why it has none."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import kdumpfile_writer as writer
import pytest
from page_compression import METHODS

from gdb_kdump.channel.client import Server
from gdb_kdump.dump.preflight import examine
from gdb_kdump.dump.window import Window
from gdb_kdump.errors import DumpError, Why
from gdb_kdump.formats.elf_core import ElfCore
from gdb_kdump.formats.flattened import open_dump_file
from gdb_kdump.memory import Memory
from gdb_kdump.records.runs import Hole

PAGE = writer.PAGE
DIRECT_MAP = writer.DIRECT_MAP

Write = Callable[[Path, writer.Kernel], list[Path]]


def kdump(method: str, version: int) -> Write:
    def write(path: Path, kernel: writer.Kernel) -> list[Path]:
        writer.write_kdump(path, kernel, method=method, version=version)
        return [path]

    return write


def elf(path: Path, kernel: writer.Kernel) -> list[Path]:
    writer.write_elf(path, kernel)
    return [path]


def split(path: Path, kernel: writer.Kernel) -> list[Path]:
    return writer.write_split(path, kernel, [0x110, 0x138, 0x1003, kernel.max_pfn])


def half_flattened(path: Path, kernel: writer.Kernel) -> list[Path]:
    paths = split(path, kernel)
    for number, plain in enumerate(paths[::2]):
        paths[2 * number] = plain.with_name(f"{plain.name}.flattened")
        writer.flatten(plain, paths[2 * number])
        plain.unlink()
    return paths


def flattened(write: Write) -> Write:
    def write_flattened(path: Path, kernel: writer.Kernel) -> list[Path]:
        (plain,) = write(path.with_name("plain"), kernel)
        writer.flatten(plain, path)
        plain.unlink()
        return [path]

    return write_flattened


CONTAINERS: dict[str, Write] = {
    **{f"{method}-{version}": kdump(method, version) for method in METHODS for version in (3, 4, 5, 6)},
    "elf": elf,
    "split": split,
    "split, half of it flattened": half_flattened,
    **{f"flattened-{method}": flattened(kdump(method, 6)) for method in METHODS},
    "flattened-elf": flattened(elf),
}


@pytest.fixture
def kernel() -> writer.Kernel:
    kernel = writer.small_kernel()
    kernel.excluded = {0x105, 0x130}
    for pfn in range(0x110, 0x114):  # some that no method makes smaller
        kernel.pages[pfn] = os.urandom(PAGE)
    return kernel


def check_every_page(memory: Memory, kernel: writer.Kernel) -> int:
    """Compare every page, by the direct map, with the kernel's; returns how many were TRUNCATED."""
    lost = 0
    for pfn in sorted({*kernel.pages, *kernel.excluded, 0, 0x150, 0x1001}):
        data, why = memory.read_prefix(DIRECT_MAP + pfn * PAGE, PAGE)
        if pfn in kernel.excluded or pfn not in kernel.pages:
            assert (data, why) == (b"", Why.FILTERED), f"page {pfn:#x}"
        elif why is Why.TRUNCATED:
            assert data == b""
            lost += 1
        else:
            assert (data, why) == (kernel.pages[pfn], None), f"page {pfn:#x}"
    return lost


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_has_the_same_memory(container: str, tmp_path: Path, kernel: writer.Kernel) -> None:
    paths = CONTAINERS[container](tmp_path / "vmcore", kernel)
    with Server.start(*map(str, paths)) as server:
        info = server.info()
        assert info.vmcoreinfo == kernel.vmcoreinfo and info.release == kernel.release
        assert info.translates and not info.report.sentence
        assert ("flattened" in info.format) == ("flattened" in container)
        assert ("split into 4 files" in info.format) == ("split" in container)
        memory = Memory(server)
        assert check_every_page(memory, kernel) == 0
        # Over the ends of pages, of files, and of what libkdumpfile keeps; backwards, so that nothing is read ahead.
        for pfn in reversed(range(0x131, 0x13F)):
            assert (
                memory.read(DIRECT_MAP + pfn * PAGE + 0xFF8, 16) == kernel.pages[pfn][-8:] + kernel.pages[pfn + 1][:8]
            )
        assert memory.read(writer.VMALLOC, 16 * PAGE) == b"".join(kernel.pages[0x200 + index] for index in range(16))


@pytest.mark.parametrize("container", ["raw-6", "zlib-4", "lzo-6", "snappy-6", "zstd-6", "elf", "flattened-zlib",
                                       "flattened-raw", "flattened-elf"])  # fmt: skip
def test_wherever_it_is_cut_off(container: str, tmp_path: Path, kernel: writer.Kernel) -> None:
    (whole,) = CONTAINERS[container](tmp_path / "vmcore", kernel)
    data, short = whole.read_bytes(), tmp_path / "short"
    opened = 0
    for part in range(1, 24):
        short.write_bytes(data[: len(data) * part // 24])
        try:
            server = Server.start(str(short))
        except DumpError as refusal:
            assert "truncated" in str(refusal) and not opened, "what has its headers can be opened"
            continue
        with server:
            opened += 1
            server.set_direct_map(DIRECT_MAP)
            lost = check_every_page(Memory(server), kernel)
            report = server.info().report
            # The descriptors tell of lost data; a lost bitmap was refused.
            assert report.pages_missing == lost > 0
            assert f"{lost:,} of {report.pages:,} pages are missing" in report.sentence
    assert opened > 10


@pytest.mark.parametrize("version", [0, 1, 2])
def test_an_old_header_has_pages_or_no_reason(version: int, tmp_path: Path, kernel: writer.Kernel) -> None:
    """libkdumpfile 0.5.1 takes every page of version 0 for one that was left out, which is not true."""
    writer.write_kdump(tmp_path / "vmcore", kernel, method="zlib", version=version)
    with Server.start(str(tmp_path / "vmcore")) as server:
        assert server.use_vmcoreinfo("SYMBOL(init_top_pgt)=ffffffff80000000\nNUMBER(phys_base)=1099511627776\n")
        server.set_direct_map(DIRECT_MAP)
        memory = Memory(server)
        for pfn in (0x100, 0x111, 0x13F):
            data, why = memory.read_prefix(DIRECT_MAP + pfn * PAGE, PAGE)
            assert data == kernel.pages[pfn] or (version == 0 and why is Why.UNKNOWN)
        assert memory.why(DIRECT_MAP + 0x105 * PAGE) is Why.FILTERED


def test_a_split_set_in_any_order_and_without_a_part(tmp_path: Path, kernel: writer.Kernel) -> None:
    first, second, third, fourth = split(tmp_path / "vmcore", kernel)
    with Server.start(*map(str, (third, first, fourth, second))) as server:
        assert check_every_page(Memory(server), kernel) == 0
        assert [file.path for file in server.info().files] == [str(path) for path in (first, second, third, fourth)]
    with Server.start(*map(str, (first, third, fourth))) as server:
        server.set_direct_map(DIRECT_MAP)
        report = server.info().report
        absent = len([pfn for pfn in kernel.pages if 0x110 <= pfn < 0x138 and pfn not in kernel.excluded])
        assert report.pages_missing == absent
        assert f"after {first} and before {third} (physical memory 0x110000 to 0x138000)" in report.sentence
        assert f"{absent} of {report.pages} pages" in report.sentence and "name all" in report.remedy
        memory = Memory(server)
        assert memory.why(DIRECT_MAP + 0x110 * PAGE) is memory.why(DIRECT_MAP + 0x137 * PAGE) is Why.TRUNCATED
        assert memory.read(DIRECT_MAP + 0x138 * PAGE, PAGE) == kernel.pages[0x138]
        assert memory.why(DIRECT_MAP + 0x105 * PAGE) is Why.FILTERED
    with Server.start(str(second)) as server:  # without the page tables
        assert f"before {second} (physical memory 0x0 to 0x110000)" in server.info().report.sentence
        assert Memory(server).why(DIRECT_MAP) is Why.TRUNCATED


def test_a_split_set_whose_files_were_begun_one_after_the_other(tmp_path: Path, kernel: writer.Kernel) -> None:
    first, second, *others = split(tmp_path / "vmcore", kernel)
    kernel.crash_time += 1  # what wrote them asked the clock for each
    writer.write_kdump(second, kernel, span=(0x110, 0x138))
    with Server.start(*map(str, (first, second, *others))) as server:
        assert check_every_page(Memory(server), kernel) == 0


def test_files_that_are_not_one_dump(tmp_path: Path, kernel: writer.Kernel) -> None:
    first, *_ = split(tmp_path / "vmcore", kernel)
    other, whole, core = tmp_path / "other", tmp_path / "whole", tmp_path / "core"
    writer.write_kdump(whole, kernel)
    writer.write_elf(core, kernel)
    kernel.crash_time += 60
    writer.write_kdump(other, kernel, span=(0x110, 0x138))
    for paths, words in (
        ((first, other), "are of different dumps"),
        ((first, first), "hold the same memory"),
        ((first, whole), f"{whole} is a whole dump"),
        ((whole, core), f"{core} is not one of the files"),
    ):
        with pytest.raises(DumpError, match=words):
            Server.start(*map(str, paths))


def test_a_damaged_flattened_dump_is_refused(tmp_path: Path, kernel: writer.Kernel) -> None:
    (path,) = CONTAINERS["flattened-zlib"](tmp_path / "vmcore", kernel)
    data = bytearray(path.read_bytes())
    for offset, size in ((-5, 16), (8, -7), (1 << 62, 1 << 62)):
        struct.pack_into(">qq", data, PAGE, offset, size)
        path.write_bytes(data)
        with pytest.raises(DumpError, match="a record of .* is impossible"):
            Server.start(str(path))
    struct.pack_into(">qq", data, PAGE, 1 << 62, 8)  # far away, but what is needed is there
    path.write_bytes(data)
    with Server.start(str(path)) as server:
        assert check_every_page(Memory(server), kernel) == 0


def test_a_window_shows_whole_blocks_and_keeps_few(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain", tmp_path / "flattened"
    plain.write_bytes(os.urandom(5 << 20))
    writer.flatten(plain, path)
    data, file = plain.read_bytes(), open_dump_file(str(path))
    window = Window(file, [(0, 100)], keep=1 << 20)
    for offset in (3 << 20, 1000, (4 << 20) - 50, *range(0, 5 << 20, 1 << 16)):
        size = min(100, len(data) - offset)
        window.show([(offset, size), (4 << 20, 8)])
        shown = os.pread(window.descriptor, len(data), 0)
        assert shown[offset : offset + size] == data[offset : offset + size]
        assert shown[4 << 20 : (4 << 20) + 8] == data[4 << 20 : (4 << 20) + 8] and shown[:100] == data[:100]
        blocks = [shown[at : at + (1 << 16)] for at in range(0, len(shown), 1 << 16)]
        present = [number for number, block in enumerate(blocks) if any(block)]
        assert len(present) <= 19 and all(blocks[number] == data[number << 16 : number + 1 << 16] for number in present)


def test_what_a_flattened_dump_lacks(tmp_path: Path) -> None:
    path = tmp_path / "flattened"
    head = b"makedumpfile".ljust(4096, b"\0")
    records = ((100, b"a" * 50), (200, b"b" * 100), (150, b"c" * 10), (220, b"d" * 20))
    body = b"".join(struct.pack(">qq", offset, len(text)) + text for offset, text in records)
    path.write_bytes(head + body)
    file = open_dump_file(str(path))
    assert (file.size, file.whole) == (300, False)
    assert file.read(95, 300) == bytes(5) + b"a" * 50 + b"c" * 10 + bytes(40) + b"b" * 20 + b"d" * 20 + b"b" * 60
    assert file.has(100, 60) and file.has(210, 90) and not file.has(99, 2) and not file.has(150, 20)
    assert file.missing(0, 320) == 100 + 40 + 20
    path.write_bytes(head + body + struct.pack(">qq", -1, -1))
    assert open_dump_file(str(path)).whole


def test_an_old_header_knows_its_split(tmp_path: Path, kernel: writer.Kernel) -> None:
    for version in (3, 4, 5, 6):
        path = tmp_path / f"vmcore-{version}"
        writer.write_kdump(path, kernel, version=version, span=(0x102, 0x110))
        (part,) = examine([str(path)]).kdumps
        assert (part.first, part.end, part.pages) == (0x102, 0x110, 0x110 - 0x102 - 1)


@pytest.mark.parametrize("write", [elf, kdump("zlib", 6), flattened(elf), split])
@pytest.mark.parametrize("phys_base", [0, 0x2600000, -0x3400000])
def test_a_kernel_is_found_without_vmcoreinfo(tmp_path: Path, write: Write, phys_base: int) -> None:
    kernel = writer.small_kernel(phys_base=phys_base)
    kaslr_offset, banner = 0x1C00000, b"Linux version 6.1.0-synthetic (me@here) #1 SMP"
    at = 0xFE8  # it runs on into the next page
    kernel.pages[0x13E] = kernel.pages[0x13E][:at] + banner[: PAGE - at]
    kernel.pages[0x13F] = banner[PAGE - at :] + kernel.pages[0x13F][len(banner) - (PAGE - at) :]
    kernel.pages[0x53E] = bytes(at) + banner[: PAGE - at]  # a copy elsewhere, such as a page of the vmlinux file
    linked = writer.IMAGE_MAP - phys_base - kaslr_offset
    banner_at, top = linked + 0x13E000 + at, linked + writer.TOP_TABLE_PFN * PAGE
    symbols = {"linux_banner": banner_at, "init_top_pgt": top}
    kernel.vmcoreinfo = ""
    paths = write(tmp_path / "vmcore", kernel)
    with Server.start(*map(str, paths)) as server:
        assert not server.info().translates and not server.info().vmcoreinfo
        with pytest.raises(DumpError, match="does not say where"):
            server.read(DIRECT_MAP, 8)
        with pytest.raises(DumpError, match="was not found.*--vmcoreinfo"):
            server.find_kernel(b"Linux version 5", symbols, None)
        with pytest.raises(DumpError, match="at the KASLR offset 0x1c00000, not at 0x1000000"):
            server.find_kernel(banner, symbols, 0x1000000)
        assert server.find_kernel(banner, symbols, kaslr_offset) == kaslr_offset
        assert server.find_kernel(banner, symbols, None) == kaslr_offset
        memory = Memory(server)
        assert check_every_page(memory, kernel) == 0
        assert memory.read(banner_at + kaslr_offset, len(banner)) == banner


def test_a_vmcoreinfo_from_elsewhere(tmp_path: Path, kernel: writer.Kernel) -> None:
    text, kernel.vmcoreinfo = kernel.vmcoreinfo, ""
    writer.write_kdump(tmp_path / "vmcore", kernel)
    with Server.start(str(tmp_path / "vmcore")) as server:
        assert not server.use_vmcoreinfo("OSRELEASE=6.1.0\n")
        assert server.use_vmcoreinfo(text)
        assert check_every_page(Memory(server), kernel) == 0


def test_an_elf_dump_of_odd_segments(tmp_path: Path) -> None:
    """Segments that end within a page, overlap, lie behind each other, and one whose data the file has lost."""
    data = os.urandom(0x8000)
    segments = [(0x1000, 0x200, 0x2C00), (0x2000, 0x1200, 0x400), (0x3C00, 0x3000, 0x1400), (0x5000, 0x10000, 0x800)]
    path, memory = tmp_path / "vmcore", bytearray(0x6000)
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack("<HHIQQQ", 4, 62, 1, 0, 64, 0)
    head += struct.pack("<IHHHHHH", 0, 64, 56, len(segments), 0, 0, 0)
    for physical, offset, size in segments:
        head += struct.pack("<IIQQQQQQ", 1, 7, offset, 0, physical, size, size, 0)
        if offset < len(data):
            piece = data[offset : offset + size]
            memory[physical : physical + len(piece)] = piece
    path.write_bytes(head + data[len(head) :])
    core = ElfCore(open_dump_file(str(path)), {62: PAGE})
    found = [core.read(at, 0x6000 - at) for at in (0, 0x10, 0x1FF0, 0x2FFF, 0x3800, 0x3C01, 0x4FFF)]
    for at, runs in zip((0, 0x10, 0x1FF0, 0x2FFF, 0x3800, 0x3C01, 0x4FFF), found, strict=True):
        place = at
        for run in runs:
            if isinstance(run, bytes):
                assert run == memory[place : place + len(run)]
                assert not {place, place + len(run) - 1} & {*range(0x1000)}
                place += len(run)
            else:
                assert run.why is (Why.TRUNCATED if 0x5000 <= place < 0x5800 else Why.FILTERED), hex(place)
                place += run.size
        assert place == 0x6000
    path.write_bytes(path.read_bytes()[:0x1F00])  # within the page at 0x2000
    core = ElfCore(open_dump_file(str(path)), {62: PAGE})
    assert core.read(0x2000, 8) == [bytes(memory[0x2000:0x2008])], "another segment has it"
    assert core.read(0x1800, 0x1000) == [
        bytes(memory[0x1800:0x2000]), bytes(memory[0x2000:0x2400]), Hole(0x400, Why.TRUNCATED)
    ]  # fmt: skip


def test_a_compression_that_nobody_knows_is_no_damage(tmp_path: Path, kernel: writer.Kernel) -> None:
    path = tmp_path / "vmcore"
    writer.write_kdump(path, kernel, method="zlib", status=0x40)
    assert examine([str(path)]).report.pages_missing == 0, "a flag of the header alone says nothing of the pages"
    data = bytearray(path.read_bytes())
    (first,) = examine([str(path)]).kdumps
    struct.pack_into("<I", data, first.descriptors_at + 24 * 3 + 12, 0x40)
    path.write_bytes(data)
    with pytest.raises(DumpError, match=r"need not be damaged.*flag 0x40"):
        Server.start(str(path))


@pytest.mark.parametrize("container", ["raw-6", "zlib-6", "elf", "flattened-raw", "flattened-elf"])
def test_a_dump_that_is_cut_off_while_it_is_open(container: str, tmp_path: Path, kernel: writer.Kernel) -> None:
    (path,) = CONTAINERS[container](tmp_path / "vmcore", kernel)
    with Server.start(str(path)) as server:
        assert server.read(DIRECT_MAP + 0x100000, PAGE) == [kernel.pages[0x100]]
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(DumpError, match="cut off while it was open"):
            server.read(DIRECT_MAP + 0x13F000, PAGE)


@pytest.mark.parametrize("container", ["raw-6", "zlib-6", "elf", "flattened-zlib"])
def test_a_dump_that_is_written_to_while_it_is_open_is_told_once(
    container: str, tmp_path: Path, kernel: writer.Kernel
) -> None:
    (path,) = CONTAINERS[container](tmp_path / "vmcore", kernel)
    with Server.start(str(path)) as server:
        server.read(DIRECT_MAP + 0x100000, PAGE)
        os.utime(path)  # as writing to it does; reading it, or giving it another name, does not
        assert not server.take_notices()
        server.read(DIRECT_MAP + 0x101000, PAGE)
        (notice,) = server.take_notices()
        assert f"{path} has been written to since it was opened" in notice
        server.read(DIRECT_MAP + 0x102000, PAGE)
        assert not server.take_notices()
    with Server.start(str(path)) as server:
        path.rename(tmp_path / "another")
        server.read(DIRECT_MAP + 0x101000, PAGE)
        assert not server.take_notices()


@pytest.mark.parametrize(("place", "offset", "size"), [(64, 1 << 21, 100), (48, 4224, 1 << 40), (32, 1 << 62, 1 << 62)])
def test_notes_that_the_file_does_not_have(
    place: int, offset: int, size: int, tmp_path: Path, kernel: writer.Kernel
) -> None:
    """Erased names are behind the pages, and the first to be cut off: libkdumpfile 0.5.1 dies of each of these."""
    path = tmp_path / "vmcore"
    for pfn in range(0x300, 0x500):  # more than the server may write where there is no window
        kernel.pages[pfn] = os.urandom(PAGE)
    writer.write_kdump(path, kernel, method="zlib")
    data = bytearray(path.read_bytes())
    struct.pack_into("<QQ", data, PAGE + place, offset + len(data) // PAGE * PAGE, size)
    path.write_bytes(data)
    with Server.start(str(path)) as server:
        server.use_vmcoreinfo(kernel.vmcoreinfo)
        assert check_every_page(Memory(server), kernel) == 0


@pytest.mark.parametrize("line", ["PAGESIZE=9999\n", "PAGESIZE\n4096\n", "PAGESIZE=0000\n"])
@pytest.mark.parametrize("version", [3, 6])
def test_a_vmcoreinfo_with_a_damaged_page_size(line: str, version: int, tmp_path: Path, kernel: writer.Kernel) -> None:
    """libkdumpfile refuses such a dump."""
    path = tmp_path / "vmcore"
    kernel.vmcoreinfo = kernel.vmcoreinfo.replace("PAGESIZE=4096\n", line)
    for pfn in range(0x300, 0x500):
        kernel.pages[pfn] = os.urandom(PAGE)
    writer.write_kdump(path, kernel, method="zlib", version=version)
    with Server.start(str(path)) as server:
        assert server.info().vmcoreinfo == kernel.vmcoreinfo
        assert check_every_page(Memory(server), kernel) == 0


def test_a_page_of_an_impossible_size_is_corrupt(tmp_path: Path, kernel: writer.Kernel) -> None:
    path = tmp_path / "vmcore"
    writer.write_kdump(path, kernel, method="zlib")
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, examine([str(path)]).kdumps[0].descriptors_at + 24 * 3 + 8, PAGE + 1)
    path.write_bytes(data)
    (kdump,) = examine([str(path)]).kdumps
    assert kdump.extents(0x103000) is Why.CORRUPT and kdump.extents(0x105000) is Why.FILTERED
    extents = kdump.extents(0x102000)
    assert not isinstance(extents, Why) and 0 < extents[1][1] < PAGE
