"""Lists followed, and members gathered, by the server: the same bytes as reading one by one, in few messages."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import kdumpfile_writer as writer
import pytest

from gdb_kdump.channel.client import Server
from gdb_kdump.channel.wire import MAX_NODES, MAX_PIECES
from gdb_kdump.errors import DumpError, Unreadable, Why
from gdb_kdump.memory import Memory

PAGE = writer.PAGE
BASE = writer.DIRECT_MAP + 0x100000
PAGES = 400
HOLE = BASE + 390 * PAGE  # a page that makedumpfile left out
NEXT, SIZE = 24, 96
PIECES = [(88, 8), (0, 4), (33, 3), (70, 2)]  # all that is asked for of a node beside its pointer
PIECE_BYTES = sum(size for _, size in PIECES)
COUNT = 2 * MAX_NODES + 100
END = 0xFFFF_FFFF_0000_0000


def list_of(count: int) -> list[int]:
    """The addresses of nodes all over the memory before the hole, some across the ends of pages, in no order."""
    places = list(range(BASE + 8, HOLE - SIZE, 136))
    random.Random(5).shuffle(places)
    return places[:count]


NODES = list_of(COUNT)
LOST = list_of(COUNT + 3)[COUNT:]  # two nodes before one in the hole, and one before a circle of one
ACROSS = HOLE - 40  # a node that ends in the hole


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    kernel = writer.small_kernel(data_pages=PAGES)
    memory = bytearray(random.Random(6).randbytes(PAGES * PAGE))

    def link(node: int, to: int) -> None:
        struct.pack_into("<Q", memory, node - BASE + NEXT, to)

    for node, following in zip(NODES, [*NODES[1:], END]):
        link(node, following)
    link(LOST[0], LOST[1])
    link(LOST[1], HOLE + 64)
    link(LOST[2], ACROSS)
    for index in range(PAGES):
        kernel.pages[0x100 + index] = bytes(memory[index * PAGE : (index + 1) * PAGE])
    kernel.excluded = {0x100 + (HOLE - BASE) // PAGE}
    path = tmp_path_factory.mktemp("dump") / "vmcore"
    writer.write_kdump(path, kernel)
    with Server.start(str(path)) as server:
        yield server


@pytest.fixture
def memory(server: Server) -> Memory:
    return Memory(server)


def nodes_of(memory: Memory, first: int, stop: int) -> list[bytes]:
    """The pieces of each node of a list, node by node."""
    found = []
    for following, block in memory.follow(first, stop, NEXT, PIECES):
        count, at, columns = len(following), 0, []
        assert len(block) == count * PIECE_BYTES
        for _, size in PIECES:
            columns.append([block[at + index * size : at + (index + 1) * size] for index in range(count)])
            at += count * size
        found += [struct.pack("<Q", after) + b"".join(node) for after, *node in zip(following, *columns)]
    return found


def read_nodes(memory: Memory, nodes: list[int]) -> list[bytes]:
    return [b"".join(memory.read(node + at, size) for at, size in [(NEXT, 8), *PIECES]) for node in nodes]


def u32s(data: bytes) -> list[int]:
    return [value for (value,) in struct.iter_unpack("<I", data)]


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 32 + MAX_NODES, COUNT])
def test_a_list_is_followed_to_its_end(memory: Memory, count: int) -> None:
    first = NODES[COUNT - count] if count else END
    assert nodes_of(memory, first, END) == read_nodes(memory, NODES[COUNT - count :])


def test_a_long_list_costs_few_messages(memory: Memory, server: Server) -> None:
    before = server._sequence
    assert sum(len(following) for following, _ in memory.follow(NODES[0], END, NEXT, PIECES)) == COUNT
    assert server._sequence - before < 50  # 32 nodes by hand, and three requests


@pytest.mark.parametrize("lost, count", [(LOST[0], 2), (LOST[2], 1), (HOLE, 0), (16, 0), ((1 << 64) - 8, 0)])
def test_a_list_ends_before_what_cannot_be_read(memory: Memory, lost: int, count: int) -> None:
    assert len(nodes_of(memory, lost, END)) == count


def test_the_server_ends_a_list_before_a_hole_as_well(server: Server) -> None:
    for first, count in ((LOST[0], 2), (LOST[2], 1), (HOLE, 0)):
        blocks = list(server.blocks(server.begin_follow(first, END, [(NEXT, 8), (0, SIZE)], MAX_NODES)))
        assert sum(map(len, blocks)) == count * (8 + SIZE)


def test_a_circle_is_the_callers_to_notice(memory: Memory) -> None:
    circle = NODES[-1]
    seen = 0
    for following, _ in memory.follow(NODES[0], circle, NEXT, PIECES):
        seen += len(following)
    assert seen == COUNT - 1
    endless = memory.follow(NODES[0], NODES[0] + 1, NEXT, PIECES)  # it stops nowhere: the caller does
    for _ in range(3):
        next(endless)
    endless.close()
    assert memory.read(NODES[3], SIZE)


def test_other_requests_may_come_in_between(memory: Memory) -> None:
    """What else is read while a list is followed neither loses its blocks nor gets them."""
    plain = Memory(memory._server, cache_bytes=0)
    seen = 0
    for following, block in memory.follow(NODES[0], END, NEXT, [(0, SIZE)]):
        assert block[:SIZE] == plain.read(NODES[seen], SIZE)
        seen += len(following)
    assert seen == COUNT


def test_an_answer_that_nobody_wants_is_thrown_away(memory: Memory, server: Server) -> None:
    for _ in range(20):
        blocks = memory.follow(NODES[0], END, NEXT, PIECES)
        next(blocks), next(blocks)
        blocks.close()
        asked = memory.gather(0, 4, u32s)
        asked.add(NODES[:MAX_NODES])
    del asked
    assert memory.u32(NODES[7]) == struct.unpack("<I", server.read(NODES[7], 4)[0])[0]  # type: ignore[arg-type]
    assert not server._awaited


def test_gathering_agrees_with_reading(memory: Memory) -> None:
    asked = memory.gather(NEXT - 2, 4, u32s)
    places = [*NODES, *range(HOLE - 3 * SIZE, HOLE + 3 * SIZE, 7), 16, (1 << 64) - 4, 1 << 64, -1, HOLE + PAGE - 23]
    for start in range(0, len(places), 1000):
        asked.add(places[start : start + 1000])
    found = asked.found()
    assert set(found) == set(places)
    whys = set()
    for place in places:
        try:
            expected: int | Why = memory.u32(place + NEXT - 2)
        except Unreadable as error:
            expected = error.why
            whys.add(error.why)
        assert found[place] == expected, hex(place)
    assert whys == {Why.FILTERED, Why.UNMAPPED}


def test_gathering_nothing(memory: Memory) -> None:
    assert memory.gather(0, 4, u32s).found() == {}


def test_absurd_requests_are_refused_and_not_fatal(server: Server) -> None:
    pointer = (NEXT, 8)
    for pieces in ([pointer, (1 << 20, 8)], [pointer, (0, 1 << 12)], [pointer, (0xFFFF_FFF8, 16)]):
        with pytest.raises(DumpError, match="cannot be asked for"):
            list(server.blocks(server.begin_follow(NODES[0], END, pieces, 10)))
    for pieces in ([], [(NEXT, 4), pointer], [pointer] * (MAX_PIECES + 1)):
        with pytest.raises(DumpError, match="the first piece of a node must be"):
            list(server.blocks(server.begin_follow(NODES[0], END, pieces, 10)))
    with pytest.raises(DumpError, match="cannot be asked for"):
        list(server.blocks(server.begin_follow(NODES[0], END, [pointer], MAX_NODES + 1)))
    with pytest.raises(DumpError, match="cannot be asked for"):
        server.pieces(server.begin_gather([NODES[0]] * (MAX_NODES + 1), 0, 8))
    assert server.read(NODES[0], 8)
