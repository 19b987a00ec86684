"""What is read of ELF files without GDB: compressed sections, packed files, damage."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import struct
import subprocess
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gdb_kdump.debuginfo import zstd
from gdb_kdump.debuginfo.compression import unpacked
from gdb_kdump.debuginfo.elf import ElfFile
from gdb_kdump.debuginfo.module_image import ModuleImage
from gdb_kdump.errors import DumpError

SOURCE = "int counter = 1; " + "".join(f"int f{n}(int a) {{ return a * {n}; }} " for n in range(200))
COMPRESSED = ("none", "zlib", "zlib-gnu", "zstd")


@pytest.fixture(scope="module")
def program(compile_types: Callable[..., Path]) -> Path:
    return compile_types(SOURCE, "-Wl,--build-id", "-fno-asynchronous-unwind-tables")


def compressed(program: Path, how: str, folder: Path) -> Path:
    path = folder / how
    subprocess.run(["objcopy", f"--compress-debug-sections={how}", program, path], check=True)
    return path


@pytest.mark.parametrize("how", COMPRESSED)
def test_sections_are_decompressed(program: Path, tmp_path: Path, how: str) -> None:
    plain, other = ElfFile(program), ElfFile(compressed(program, how, tmp_path))
    for name in (".debug_info", ".debug_str", ".debug_frame", ".text"):
        assert other.section(name) == plain.section(name) != b""
    assert other.debug_sizes() == plain.debug_sizes()
    assert other.compressions == ([] if how == "none" else [how.partition("-")[0]])


def test_no_zstd_at_all(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zstd, "_LIBRARY", "libzstd.so.none")
    with pytest.raises(DumpError, match=r"^cannot read \S+/zstd: it is compressed by zstd, .*: install libzstd1 "):
        ElfFile(compressed(program, "zstd", tmp_path)).section(".debug_info")


@pytest.mark.parametrize("how", COMPRESSED)
def test_damage_is_one_error(program: Path, tmp_path: Path, how: str) -> None:
    """Bytes of the headers, and of the beginnings of sections, are others."""
    data, wild = compressed(program, how, tmp_path).read_bytes(), random.Random(how)
    (table,), (count,) = struct.unpack_from("<Q", data, 0x28), struct.unpack_from("<H", data, 0x3C)
    starts = [struct.unpack_from("<Q", data, table + 64 * number + 24)[0] for number in range(count)]
    places = [
        *range(64),
        *range(table, table + 64 * count),
        *(at for start in starts for at in range(start, start + 24)),
    ]
    ends: Counter[str] = Counter()
    for _ in range(400):
        mutant = bytearray(data)
        for _ in range(wild.choice((1, 1, 3))):
            mutant[wild.choice(places) % len(data)] = wild.choice((0, 255, wild.randrange(256)))
        path = tmp_path / "mutant"
        path.write_bytes(mutant[: wild.choice((len(data), len(data), wild.randrange(len(data))))])
        try:
            read_all(path)
            ends["read"] += 1
        except DumpError as error:
            assert str(path) in str(error) or "the module's file is damaged" in str(error)
            ends["refused"] += 1
    assert min(ends["read"], ends["refused"]) > 20


def read_all(path: Path) -> None:
    elf = ElfFile(path)
    assert elf.debug_sizes() is not None and elf.compressions is not None and elf.debuglink_checksum >= 0
    for name in (".debug_info", ".debug_frame", ".symtab"):
        elf.section(name)
    elf.find_symbol("counter")
    elf.symbol_before(1 << 20)
    elf.image()
    elf.read(0x4000, 16)
    elf.close()
    image = ModuleImage(path.read_bytes())
    image.loaded_sections()
    list(image.symbols())
    image.at_zero()


@pytest.mark.parametrize(
    "data", [lzma.compress(b"x" * 99999)[:-30], b"\x28\xb5\x2f\xfd", b"BZh9damaged", b"\x1f\x8b\x08\xff"]
)
def test_damaged_packed_files(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "packed"
    path.write_bytes(data)
    with path.open("rb") as file, pytest.raises(DumpError, match=r"^it is (cut off|damaged)"):
        list(unpacked(file))


def test_streams_one_after_another(tmp_path: Path) -> None:
    """As `cat` makes them of several packed files, and pixz and pzstd of one."""
    parts = [bytes([number]) * 300_000 for number in range(3)]
    zstd = partial(subprocess.check_output, ["zstd", "-q", "-c"])
    packers: list[Callable[[bytes], Any]] = [
        gzip.compress, bz2.compress, lzma.compress, lambda part: zstd(input=part),
    ]  # fmt: skip
    for pack in packers:
        path = tmp_path / "packed"
        path.write_bytes(b"".join(pack(part) for part in parts))
        with path.open("rb") as file:
            assert b"".join(unpacked(file)) == b"".join(parts)
