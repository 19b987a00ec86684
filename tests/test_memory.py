"""The block cache: the same bytes as the server's, few round trips, bounded."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import kdumpfile_writer as writer
import pytest

from gdb_kdump.channel.client import Server
from gdb_kdump.errors import Unreadable, Why
from gdb_kdump.memory import Memory
from gdb_kdump.records.runs import Run

PAGE = writer.PAGE
BASE = writer.DIRECT_MAP + 0x100000
PAGES = 256
HOLE = 40  # the page that makedumpfile left out


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    kernel = writer.small_kernel(data_pages=PAGES)
    kernel.pages[0x100] = b"\xfe\xff\xff\xff\xff\xff\xff\xff" + b"name\0".ljust(PAGE - 11, b"x") + b"end"
    kernel.excluded = {0x100 + HOLE}
    path = tmp_path_factory.mktemp("dump") / "vmcore"
    writer.write_kdump(path, kernel)
    with Server.start(str(path)) as server:
        yield server


@pytest.fixture
def memory(server: Server) -> Memory:
    return Memory(server)


class Counting:
    """A server that counts what it is asked."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.sizes: list[int] = []

    def read(self, addr: int, size: int) -> list[Run]:
        self.sizes.append(size)
        return self.server.read(addr, size)


def test_reads_of_every_kind_agree_with_the_server(server: Server) -> None:
    rng = random.Random(7)
    memory = Memory(server, cache_bytes=0)  # as little as it takes: everything is evicted all the time
    hole = BASE + HOLE * PAGE
    for _ in range(3000):
        addr = BASE + rng.randrange((PAGES - 20) * PAGE)
        size = rng.choice([0, 1, 8, 64, PAGE, 3 * PAGE + 5, 16 * PAGE])
        data, why = memory.read_prefix(addr, size)
        runs = server.read(addr, size)
        if why is None:
            assert runs == ([data] if size else [])
        else:
            assert why is Why.FILTERED and addr + len(data) == max(addr, hole)
            assert not data or runs[0] == data
            with pytest.raises(Unreadable) as refusal:
                memory.read(addr, size)
            assert refusal.value.addr == addr + len(data)


@pytest.mark.parametrize("size", [8, 24, 56, PAGE, 5000])
def test_a_stream_has_every_whole_element_that_the_server_has(server: Server, size: int) -> None:
    counting = Counting(server)
    memory = Memory(counting)  # type: ignore[arg-type]
    count, hole = (PAGES - 20) * PAGE // size, BASE + HOLE * PAGE
    elements: dict[int, bytes] = {}
    missing = []
    for addr, piece in memory.stream(BASE, size, count):
        if isinstance(piece, Why):
            missing.append((addr, piece))
            continue
        assert not len(piece) % size
        elements |= {addr + at: piece[at : at + size] for at in range(0, len(piece), size)}
    assert missing == [(hole, Why.FILTERED)]
    starts = range(BASE, BASE + count * size, size)
    assert set(elements) == {addr for addr in starts if addr + size <= hole or addr >= hole + PAGE}
    assert all(memory.read(addr, size) == data for addr, data in elements.items())
    assert len(elements) > 200 or size > 4096


def test_typed_reads(memory: Memory) -> None:
    assert memory.u8(BASE) == 0xFE
    assert memory.u16(BASE) == 0xFFFE
    assert memory.u32(BASE) == 0xFFFFFFFE
    assert memory.u64(BASE) == memory.ptr(BASE) == 0xFFFFFFFFFFFFFFFE
    assert memory.s32(BASE) == memory.s64(BASE) == -2
    assert memory.u64(BASE + PAGE - 4) >> 32 == 0x00000000, "the next page begins with a zero word"
    assert memory.u64(BASE + PAGE + 8) == 0x101 << 32 | 1


def test_strings(memory: Memory) -> None:
    assert memory.cstring(BASE + 8) == b"name"
    assert memory.cstring(BASE + 8, 2) == b"na"
    assert memory.cstring(BASE + PAGE - 3) == b"end"
    with pytest.raises(Unreadable):
        memory.cstring(BASE + HOLE * PAGE)


def test_a_string_may_end_before_a_hole(memory: Memory) -> None:
    assert memory.cstring(BASE + HOLE * PAGE - 8) == b"\xff\x01"
    with pytest.raises(Unreadable) as refusal:
        memory.cstring(BASE + HOLE * PAGE)
    assert refusal.value.addr == BASE + HOLE * PAGE


@pytest.mark.parametrize("addr, size", [(-1, 1), (-PAGE, 8), ((1 << 64) - 4, 8), (1 << 64, 1), (1 << 70, 8)])
def test_addresses_that_are_none(memory: Memory, addr: int, size: int) -> None:
    with pytest.raises(Unreadable) as refusal:
        memory.read(addr, size)
    assert refusal.value.why is Why.UNMAPPED


def test_a_block_serves_many_members_without_a_copy(memory: Memory) -> None:
    buffer, offset = memory.block(BASE + PAGE + 16, 16)
    assert struct.unpack_from("<QQ", buffer, offset) == (0x101 << 32 | 2, 0x101 << 32 | 3)
    assert memory.block(BASE + PAGE + 24, 8)[0] is buffer
    for at in range(BASE + PAGE - 64, BASE + 3 * PAGE, 8):
        buffer, offset = memory.block(at, 232)
        assert buffer[offset : offset + 232] == memory.read(at, 232)
    with pytest.raises(Unreadable):
        memory.block(BASE + HOLE * PAGE - 8, 16)


def test_a_walk_is_read_ahead_and_a_random_touch_little(server: Server) -> None:
    counting = Counting(server)
    memory = Memory(counting)  # type: ignore[arg-type]
    memory.u64(BASE + 100 * PAGE)
    assert counting.sizes == [4 * PAGE]
    for at in range(BASE + 100 * PAGE, BASE + 228 * PAGE, 512):
        memory.u64(at)
    assert len(counting.sizes) <= 2 + 128 // 16
    assert sum(counting.sizes) <= (128 + 16) * PAGE, "no page twice"


def test_a_hole_is_asked_for_once(server: Server) -> None:
    counting = Counting(server)
    memory = Memory(counting)  # type: ignore[arg-type]
    for _ in range(5):
        assert memory.why(BASE + HOLE * PAGE + 8) is Why.FILTERED
    assert len(counting.sizes) == 1


def test_the_cache_is_bounded(server: Server) -> None:
    memory = Memory(server, cache_bytes=32 * PAGE)
    for _ in range(3):
        for page in range(PAGES):
            if page != HOLE:
                memory.read(BASE + page * PAGE, PAGE)
                assert len(memory._pages) <= 32
    assert memory._held == len(memory._pages) * PAGE
