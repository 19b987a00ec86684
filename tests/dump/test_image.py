"""The generator of kernels from C: what it puts into a vmcore is what libkdumpfile and GDB find there."""

from __future__ import annotations

import re
from pathlib import Path

import kdumpfile  # type: ignore[import-untyped]
import pytest
from fixtures.image import DIRECT_MAP_BEFORE_4_20, Image
from fixtures.program import link_kernel
from pytest_gdb_fixtures import Gdb

SOURCE = """
typedef struct { int counter; } atomic_t;
struct thing {
    struct thing *next;
    union { struct { unsigned short low, high; }; unsigned int both; };
    unsigned char plain:3, flag:1, kind:2;
    char name[16];
    atomic_t refs;
    struct { long value; } parts[3];
};
char init_level4_pgt[4096] __attribute__((aligned(4096))) = {1};
unsigned long __per_cpu_offset[8] = {1};
int nr_cpu_ids = 1;
struct thing global = { .name = "from C" };
__attribute__((section(".data..percpu"))) struct thing each = { .name = "each" };
long placed(void) { return 1; }
__attribute__((section(".at.there"))) long there(long x) { return placed() + x; }
"""
THERE = 0xFFFFFFFF81234560


@pytest.fixture
def image(tmp_path: Path) -> Image:
    (tmp_path / "kernel.c").write_text(SOURCE)
    program = link_kernel(tmp_path, [tmp_path / "kernel.c"], places={".at.there": THERE}, build_id="ab" * 20)
    image = Image(program, release="4.18.0-synthetic", direct_map=DIRECT_MAP_BEFORE_4_20)
    image.set_cpus(3)
    return image


def written(image: Image, path: Path) -> kdumpfile.kdumpfile:
    image.write(path)
    dump = kdumpfile.kdumpfile(file=str(path))
    dump.attr["file.mmap_policy"] = 0
    dump.attr["addrxlat.ostype"] = "linux"
    return dump


def test_all_kinds_of_addresses_are_in_the_dump(image: Image, tmp_path: Path) -> None:
    thing = image.new("struct thing", {"name": "in the direct map"[:16]})
    stored = {
        thing: b"\0" * 13,
        image.symbol("global") + image.types.offset("struct thing", "name"): b"from C\0",
        image.percpu("each", 2) + image.types.offset("struct thing", "name"): b"each\0",
        0xFFFFC90000001FFA: b"across two pages",
        0xFFFFFFFFA0001000: b"a module",
        0xFFFF88114B4F0B40: b"far up in memory",
    }
    for addr, data in stored.items():
        if addr >> 32 in (0xFFFFC900, 0xFFFF8811) or addr == 0xFFFFFFFFA0001000:
            image.store(addr, data)
    dump = written(image, tmp_path / "vmcore")
    for addr, data in stored.items():
        assert bytes(dump.read(kdumpfile.KDUMP_KVADDR, addr, len(data))) == data, hex(addr)
    assert dump.attr["linux.uts.release"] == "4.18.0-synthetic"
    assert image.build_id == "ab" * 20


def test_gdb_agrees_about_every_member(image: Image, tmp_path: Path, gdb_run: Gdb) -> None:
    values = {"next": -1, "high": 0x1234, "flag": 1, "kind": 2, "name": "abc", "refs.counter": -7, "parts[2].value": 5}
    thing = image.new("struct thing", values)
    bytes_of = image.load(thing, image.types.size("struct thing"))
    (tmp_path / "thing").write_bytes(bytes_of)
    program = tmp_path / "vmlinux"
    run = gdb_run(
        f"file {program}",
        f"python v = gdb.Value(open('{tmp_path}/thing', 'rb').read(), gdb.lookup_type('struct thing'))",
        "python print(v.format_string(format='x'))",
        "info symbol there",
        "print there",
        plugin=False,
    ).succeeded()
    text = re.sub(r"\s+", " ", run.stdout)
    assert "next = 0xffffffffffffffff" in text
    assert "low = 0x0, high = 0x1234" in text
    assert "plain = 0x0, flag = 0x1, kind = 0x2" in text
    assert "name = {0x61, 0x62, 0x63, 0x0" in text
    assert "counter = 0xfffffff9" in text
    assert "value = 0x5" in text
    assert f"{THERE:#x} <there>" in text


def test_many_objects_in_one_call(image: Image) -> None:
    packer = image.types.packer("struct thing", ("next", "both", "refs.counter"))
    at = image.alloc(packer.size * 1000)
    image.store(at, b"".join(packer.pack(at + number, number, 1) for number in range(1000)))
    one = image.new("struct thing", {"next": at + 999, "low": 999, "refs": {"counter": 1}})
    assert image.load(at + 999 * packer.size, packer.size) == image.load(one, packer.size)


def test_what_cannot_be_is_refused(image: Image) -> None:
    thing = image.new("struct thing", {})
    for value, error in (
        ({"nothing": 1}, KeyError),
        ({"name": "x" * 17}, ValueError),
        ({"refs": 1}, ValueError),
    ):
        with pytest.raises(error):
            image.put(thing, "struct thing", value)
    with pytest.raises(ValueError, match="canonical"):
        image.store(0x017306E8A8ED53C9, b"x")
