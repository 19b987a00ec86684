"""A search of a dump of any form: what is in it is found, once, and what is not in it is told."""

from __future__ import annotations

import os
import random
import signal
import struct
import time
import zlib
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import kdumpfile_writer as writer
import page_compression
import pytest

from gdb_kdump.channel.client import Server
from gdb_kdump.channel.wire import MOST_RANGES
from gdb_kdump.dump import inflate
from gdb_kdump.dump.scan import BLOCK
from gdb_kdump.errors import DumpError, Why
from gdb_kdump.records.patterns import Pattern, Texts, Words

PAGE = writer.PAGE
FIRST, PAGES = 0x100, 3800  # up to the page tables
VALUE = 0x5AFE_C0DE_5AFE_C0DE
WORD = Words(8, ((VALUE, VALUE),))
TEXT = b"a string over the end of a page"
TEXTS = Texts(((TEXT, b"\xff" * len(TEXT)),))


@dataclass
class Answer:
    """All that a search has said."""

    hits: list[int] = field(default_factory=list)
    holes: dict[int, Why] = field(default_factory=dict)
    """By page."""
    done: list[tuple[int, int]] = field(default_factory=list)
    searched: int = 0


def search(server: Server, pattern: Pattern, ranges: list[tuple[int, int]], physical: bool = True) -> Answer:
    answer, hits = Answer(), array("Q")
    for part in server.found(server.begin_search(pattern, ranges, physical)):
        assert list(part.hits) == sorted(part.hits)
        hits += part.hits
        answer.holes |= {page: why for start, size, why in part.holes for page in range(start, start + size, PAGE)}
        answer.done += part.done
        answer.searched += part.searched_bytes
    answer.hits = sorted(hits)
    return answer


def everything(server: Server, pattern: Pattern) -> Answer:
    return search(server, pattern, [(0, (server.info().max_pfn or 0) * PAGE)])


@dataclass(frozen=True)
class Planted:
    """A kernel in whose memory VALUE and TEXT were put, by their physical addresses; some of them in `lost` pages."""

    kernel: writer.Kernel
    words: list[int]
    texts: list[int]

    def in_pages(self, places: list[int], size: int, without: set[int]) -> list[int]:
        """The places all of whose bytes are in other pages."""
        return [at for at in places if not {at // PAGE, (at + size - 1) // PAGE} & (self.kernel.excluded | without)]


@pytest.fixture(scope="module")
def planted() -> Planted:
    kernel, chance = writer.small_kernel(), random.Random(12)
    memory = bytearray(chance.randbytes(PAGES // 2 * PAGE) + bytes(PAGES // 2 * PAGE))
    texts = [number * PAGE - 7 - number % 20 for number in range(300, PAGES, 23) if number * PAGE % BLOCK]
    texts += [number * BLOCK - 5 for number in range(1, len(memory) // BLOCK)]
    for at in texts:
        memory[at : at + len(TEXT)] = TEXT
    words = {at & -8 for at in chance.sample(range(0, len(memory) - 8, 256), 200)}
    words |= {0, BLOCK, BLOCK + 8 * 5, 5 * BLOCK - 48, len(memory) - 8}
    words = {at for at in words if not any(at - 40 < text < at + 40 for text in texts)}
    for at in words:
        struct.pack_into("<Q", memory, at, VALUE)
    for index in range(PAGES):
        kernel.pages[FIRST + index] = bytes(memory[index * PAGE : (index + 1) * PAGE])
    kernel.excluded = {FIRST + number for number in chance.sample(range(PAGES), 300)}
    first = FIRST * PAGE
    return Planted(kernel, sorted(first + at for at in words), sorted(first + at for at in set(texts)))


def check(server: Server, planted: Planted, without: set[int] | None = None, why: Why = Why.FILTERED) -> None:
    """Everything is found but what is in excluded pages and those `without`, which are told as missing for that."""
    lost = without or set()
    found, texts = everything(server, WORD), everything(server, TEXTS)
    assert found.hits == planted.in_pages(planted.words, 8, lost)
    assert texts.hits == planted.in_pages(planted.texts, len(TEXT), lost)
    assert len(found.hits) > 60 and len(texts.hits) > 30
    present = set(planted.kernel.pages) - planted.kernel.excluded - lost
    for answer in (found, texts):
        assert answer.searched == len(present) * PAGE
        absent = {page // PAGE for page in answer.holes}
        assert absent == set(range(planted.kernel.max_pfn)) - present
        assert {answer.holes[pfn * PAGE] for pfn in lost} <= {why}
        assert {answer.holes[pfn * PAGE] for pfn in planted.kernel.excluded} <= {Why.FILTERED}
        assert sum(size for _, size in answer.done) == planted.kernel.max_pfn * PAGE


@pytest.mark.parametrize("method", ["raw", "zlib", "lzo"])
def test_of_a_kdump_file(planted: Planted, tmp_path: Path, method: str) -> None:
    path = tmp_path / "vmcore"
    writer.write_kdump(path, planted.kernel, method=method)
    with Server.start(str(path)) as server:
        check(server, planted)


def test_of_a_flattened_dump(planted: Planted, tmp_path: Path) -> None:
    writer.write_kdump(tmp_path / "plain", planted.kernel, method="lzo")
    writer.flatten(tmp_path / "plain", tmp_path / "vmcore", piece=0x30000)
    with Server.start(str(tmp_path / "vmcore")) as server:
        check(server, planted)


def test_of_an_elf_dump(planted: Planted, tmp_path: Path) -> None:
    writer.write_elf(tmp_path / "vmcore", planted.kernel)
    with Server.start(str(tmp_path / "vmcore")) as server:
        found = everything(server, WORD)
        assert found.hits == planted.in_pages(planted.words, 8, set())
        assert everything(server, TEXTS).hits == planted.in_pages(planted.texts, len(TEXT), set())
        assert set(found.holes.values()) == {Why.FILTERED}


def test_of_a_split_set_of_which_a_file_is_missing(planted: Planted, tmp_path: Path) -> None:
    paths = writer.write_split(tmp_path / "vmcore", planted.kernel, [0x600, 0xA00, 0x2000])
    with Server.start(*map(str, paths)) as server:
        check(server, planted)
    with Server.start(str(paths[0]), str(paths[2])) as server:
        found = everything(server, WORD)
        lost = set(range(0x600, 0xA00))
        assert found.hits == planted.in_pages(planted.words, 8, lost)
        assert {found.holes[pfn * PAGE] for pfn in lost} == {Why.TRUNCATED}


@pytest.mark.parametrize("method", ["raw", "zlib"])
def test_of_a_truncated_dump(planted: Planted, tmp_path: Path, method: str) -> None:
    path = tmp_path / "vmcore"
    writer.write_kdump(path, planted.kernel, method=method)
    os.truncate(path, path.stat().st_size * 2 // 3)
    with Server.start(str(path)) as server:
        found = everything(server, WORD)
        lost = {page // PAGE for page, why in found.holes.items() if why is Why.TRUNCATED}
        there = sorted(set(planted.kernel.pages) - planted.kernel.excluded)
        assert 0 < len(lost) < len(there) and sorted(lost) == there[-len(lost) :]
        assert found.hits == planted.in_pages(planted.words, 8, lost)
        check(server, planted, lost, Why.TRUNCATED)


def test_damaged_pages_are_told_and_those_beside_them_searched(planted: Planted, tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    writer.write_kdump(path, planted.kernel, method="zlib")
    data = bytearray(path.read_bytes())
    damaged = set()
    for pfn in random.Random(4).sample(sorted(set(range(0x200, 0x900)) - planted.kernel.excluded), 9):
        body = page_compression.compress(bytes(planted.kernel.pages[pfn]), "zlib")[0]
        at = data.find(body)
        if len(body) < PAGE and data.find(body, at + 1) < 0:
            data[at + len(body) // 2 : at + len(body) // 2 + 4] = b"\xff\x00\xff\x00"
            damaged.add(pfn)
    path.write_bytes(data)
    with Server.start(str(path)) as server:
        answer = everything(server, WORD)
        assert {page // PAGE for page, why in answer.holes.items() if why is Why.CORRUPT} == damaged
        assert answer.hits == planted.in_pages(planted.words, 8, damaged)


@pytest.fixture(scope="module")
def zlib_dump(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zlib") / "vmcore"
    writer.write_kdump(path, planted.kernel, method="zlib")
    return path


@pytest.mark.parametrize("make", dict.fromkeys([inflate.ByZlib, type(inflate.inflater())]))
def test_every_way_to_inflate_a_page(make: Callable[[], inflate.Inflater]) -> None:
    inflater = make()
    page = writer.text_page(7)
    stored = zlib.compress(page)
    data, out = b"###" + stored + stored[:-1] + b"!" + zlib.compress(page[1:]), bytearray(3 * PAGE)
    inflater.take(data)
    inflater.begin(out, PAGE)
    inflater.put(3, len(stored), PAGE)
    assert out == bytes(PAGE) + page + bytes(PAGE)
    less = len(data) - 3 - 2 * len(stored)
    for offset, size in [
        (3 + len(stored), len(stored)),
        (3 + 2 * len(stored), less),
        (0, 9),
        (len(data) - 1, 8),
        (-9, 8),
    ]:
        with pytest.raises(ValueError):
            inflater.put(offset, size, 0)


def test_ranges_are_searched_and_nothing_else(planted: Planted, zlib_dump: Path) -> None:
    there = planted.in_pages(planted.words, 8, set())
    inside = there[::3]
    ranges = [(at - 24, 48) for at in inside]
    ranges += [(FIRST * PAGE + 64 * number, 8) for number in range(10 * MOST_RANGES // 4)]  # more than a message has
    with Server.start(str(zlib_dump)) as server:
        found = search(server, WORD, sorted(ranges))
        near = {at for at in there if any(start <= at <= start + size - 8 for start, size in ranges)}
        assert set(found.hits) == near and near >= set(inside)
        # A word begins and ends within a range, wherever that begins.
        at = there[5]
        hits = [
            search(server, WORD, [(start, size)]).hits for start, size in [(at - 3, 11), (at - 3, 10), (at + 1, 15)]
        ]
        assert hits == [[at], [], []]
        assert search(server, WORD, []).hits == []


def test_kernel_addresses_are_translated(planted: Planted, zlib_dump: Path) -> None:
    with Server.start(str(zlib_dump)) as server:
        size = planted.kernel.max_pfn * PAGE
        found = search(server, WORD, [(writer.DIRECT_MAP, size)], physical=False)
        assert found.hits == [writer.DIRECT_MAP + at for at in planted.in_pages(planted.words, 8, set())]
        mapped = search(server, TEXTS, [(writer.VMALLOC, 32 * PAGE)], physical=False)
        first = 0x200 * PAGE
        texts = [at for at in planted.in_pages(planted.texts, len(TEXT), set()) if first <= at < first + 16 * PAGE]
        assert [at - writer.VMALLOC + first for at in mapped.hits] == [
            at for at in texts if at + len(TEXT) <= first + 16 * PAGE
        ]
        assert set(mapped.holes.values()) <= {Why.UNMAPPED, Why.FILTERED}


def test_what_is_mapped(zlib_dump: Path) -> None:
    with Server.start(str(zlib_dump)) as server:
        half = 1 << 47
        pieces = server.mapped((1 << 64) - half, half)
        assert pieces == [
            (writer.DIRECT_MAP, 0x2000 * PAGE, 0), (writer.VMALLOC, 16 * PAGE, 0x200 * PAGE),
            (writer.IMAGE_MAP, 0x2000 * PAGE, 0),
        ]  # fmt: skip
        assert server.mapped(writer.VMALLOC + 5 * PAGE + 8, PAGE) == [
            (writer.VMALLOC + 5 * PAGE + 8, PAGE, 0x205008 & -PAGE | 8)
        ]
        assert server.mapped(writer.DIRECT_MAP + 0x12345, 16) == [(writer.DIRECT_MAP + 0x12345, 16, 0x12345)]
        assert server.mapped(0, 1 << 47) == server.mapped(writer.VMALLOC + 16 * PAGE, 1 << 30) == []


def test_a_page_table_that_is_missing_is_a_hole(planted: Planted, tmp_path: Path) -> None:
    kernel = writer.small_kernel()
    table = next(pfn for pfn, page in kernel.pages.items() if struct.pack("<Q", 0x200 * PAGE | 0x63) in page)
    kernel.excluded = {table}
    writer.write_kdump(tmp_path / "vmcore", kernel)
    with Server.start(str(tmp_path / "vmcore")) as server:
        assert server.mapped(writer.VMALLOC, 4 * PAGE) == [(writer.VMALLOC, 4 * PAGE, Why.FILTERED)]


def workers_of(server: Server) -> list[int]:
    pid = server._process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def slow(planted: Planted, tmp_path: Path) -> Path:
    """A dump in which every search has more hits than a worker may be ahead of its client."""
    kernel = writer.small_kernel()
    kernel.pages |= {FIRST + index: struct.pack("<Q", VALUE) * 512 for index in range(PAGES)}
    path = tmp_path / "slow"
    writer.write_kdump(path, kernel)
    return path


def test_a_search_may_be_stopped_and_other_things_asked_for_meanwhile(slow: Path) -> None:
    with Server.start(str(slow)) as server:
        answer = server.begin_search(WORD, [(0, 0x2000 * PAGE)], True)
        assert any(len(part.hits) for part in server.found(answer))
        workers = workers_of(server)
        assert workers
        assert server.read(writer.DIRECT_MAP + FIRST * PAGE, 8) == [struct.pack("<Q", VALUE)]
        server.stop_search()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
        server.stop_search()
        assert len(everything(server, WORD).hits) == PAGES * 512
        # Another one takes the place of one that still goes on.
        server.begin_search(WORD, [(0, 0x2000 * PAGE)], True)
        assert len(search(server, WORD, [(FIRST * PAGE, 3 * PAGE)]).hits) == 3 * 512
        wait_until(lambda: not workers_of(server))


def test_workers_end_with_the_server_and_are_confined_as_it_is(slow: Path) -> None:
    with Server.start(str(slow)) as server:
        answer = server.begin_search(WORD, [(0, 0x2000 * PAGE)], True)
        next(server.found(answer))
        ours, (worker, *_) = server._process.pid, workers_of(server)
        limits = Path(f"/proc/{ours}/limits").read_text()
        assert Path(f"/proc/{worker}/limits").read_text() == limits
        for line in ("NoNewPrivs:", "CapEff:", "Uid:"):
            of_both = [
                next(row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith(line))
                for pid in (ours, worker)
            ]
            assert of_both[0] == of_both[1]
        # Of the sockets it has its own alone: whoever waits for the end of the server's others is not kept waiting.
        sockets = [
            link for link in map(os.readlink, Path(f"/proc/{worker}/fd").iterdir()) if link.startswith("socket:")
        ]
        assert len(sockets) == 1
        os.kill(ours, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{worker}").exists())


def test_a_worker_that_dies_loses_nothing(slow: Path, planted: Planted) -> None:
    with Server.start(str(slow)) as server:
        messages = server.found(server.begin_search(WORD, [(0, 0x2000 * PAGE)], True))
        hits, done, holes = set(next(messages).hits), list[tuple[int, int]](), 0
        os.kill(workers_of(server)[0], signal.SIGSEGV)
        for part in messages:
            hits.update(part.hits)
            done += part.done
            holes += sum(size for _, size, why in part.holes if why is Why.UNKNOWN)
        assert len(hits) == PAGES * 512 and not holes
        assert sum(size for _, size in done) == 0x2000 * PAGE


def test_what_kills_every_worker_is_told(planted: Planted, tmp_path: Path) -> None:
    """A file that has been cut off is none that anybody reads on."""
    path = tmp_path / "vmcore"
    writer.write_kdump(path, planted.kernel)
    with Server.start(str(path)) as server:
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(DumpError, match="has been cut off while it was open"):
            everything(server, WORD)
        assert server.alive
