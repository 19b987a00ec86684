"""Truncated dumps: one memory in seven containers, each cut off at 23 places.

gdb must outlive each, and say how much is missing, or in one sentence why the dump cannot be opened; and every page
that the whole dump has must be the same, or TRUNCATED: never zeros. The dump server is asked for every page; GDB, whose
own road is slower, for those at the cut and for a sample of the others.
"""

import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.robustness.interactive import Gdb
from benchmarks.robustness.rows import SMALL, Row
from benchmarks.tools import ROOT, Dump

sys.path.insert(0, str(ROOT))

from gdb_kdump.channel.client import Server
from gdb_kdump.channel.wire import MAX_READ
from gdb_kdump.debuginfo.elf import ElfFile
from gdb_kdump.errors import DumpError, Why
from gdb_kdump.formats.vmcoreinfo import offset_of, parse_vmcoreinfo
from gdb_kdump.records.runs import Hole

CONTAINERS = ("raw", "zlib", "lzo", "snappy", "zstd", "elf", "flattened")
PARTS = 24
CUTS = {SMALL: (23, 11, 2), "full": tuple(range(PARTS - 1, 0, -1))}  # the file gets shorter from one to the next
SAMPLE = 100  # pages
AT_CUT = 32  # pages beside those where present turns into missing
_PAGE = 4096
_TRANSCODE = ROOT / "tests" / "transcode.py"
_IN_GDB = Path(__file__).with_name("in_gdb_pages.py")
_BAD = ("Traceback", "internal-error", "Python Exception", "SIGSEGV", "SIGBUS")

Known = str | Why


@dataclass(frozen=True)
class _Memory:
    """By page frame number, what each page of a dump has: a digest, or why it has nothing; and where GDB finds it."""

    direct_map: int
    pages: dict[int, Known]

    def address(self, pfn: int) -> int:
        return self.direct_map + pfn * _PAGE


def measure(dump: Dump, size: str) -> list[Row]:
    """A row for each container; figures are of the largest cut file that could be opened, and the slowest opening."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        raw, short = folder / "raw", folder / "vmcore"
        subprocess.run(["makedumpfile", "-d", "0", dump.vmcore, raw], check=True, capture_output=True)
        direct_map = _direct_map(dump)
        everything = _read(Server.start(str(raw)), _Memory(direct_map, {}), None)
        memory = _Memory(direct_map, {pfn: everything[pfn] for pfn in _worth_reading(everything)})
        for container in CONTAINERS:
            row = Row("truncation", container)
            subprocess.run([sys.executable, _TRANSCODE, raw, container, short], check=True)
            if _read(Server.start(str(short)), memory, None) != everything:
                row.failures.append(f"{container}: the whole dump has other bytes")
            _cut_again_and_again(short, CUTS[size], dump.vmlinux, memory, row)
            rows.append(row)
    return rows


def _direct_map(dump: Dump) -> int:
    """Where the kernel maps all physical memory."""
    symbol = ElfFile(dump.vmlinux).find_symbol("page_offset_base")
    assert symbol is not None
    with Server.start(str(dump.vmcore)) as server:
        offset = offset_of(parse_vmcoreinfo(server.info().vmcoreinfo or ""), {}) or 0
        (found,) = server.read(symbol.value + offset, 8)
    assert isinstance(found, bytes)
    return int.from_bytes(found, "little")


def _worth_reading(everything: dict[int, Known]) -> list[int]:
    """The pages that a dump has, and those beside them, in order."""
    present = {pfn for pfn, known in everything.items() if isinstance(known, str)}
    beside = {pfn + step for pfn in present for step in (-1, 1)} & everything.keys()
    return sorted(present | beside)


def _read(server: Server, memory: _Memory, pfns: Sequence[int] | None) -> dict[int, Known]:
    """The pages of these numbers, in order, or of all, and the end of a server."""
    found: dict[int, Known] = {}
    with server:
        server.set_direct_map(memory.direct_map)
        for first, end in _runs(range(server.info().max_pfn) if pfns is None else pfns):
            pfn = first
            for run in server.read(memory.address(first), (end - first) * _PAGE):
                for at in range(0, run.size if isinstance(run, Hole) else len(run), _PAGE):
                    found[pfn] = run.why if isinstance(run, Hole) else _digest(run[at : at + _PAGE])
                    pfn += 1
    return found


def _runs(pfns: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Numbers that follow each other, no more than can be asked for at once: the first, and the one after the last."""
    first = end = pfns[0]
    for pfn in pfns:
        if pfn != end or (end - first) * _PAGE >= MAX_READ:
            yield first, end
            first = pfn
        end = pfn + 1
    yield first, end


def _digest(page: bytes) -> str:
    return hashlib.blake2b(page, digest_size=8).hexdigest()


def _cut_again_and_again(short: Path, cuts: Sequence[int], vmlinux: Path, memory: _Memory, row: Row) -> None:
    """Cut the file shorter and shorter; one gdb opens what is left each time, another one where that has died."""
    whole, left = short.stat().st_size, list(cuts)
    while left:
        with Gdb(f"source {_IN_GDB}") as gdb:
            try:
                while left:
                    part = left.pop(0)
                    what = f"{row.what} at {part}/{PARTS}"
                    os.truncate(short, whole * part // PARTS)
                    there = _compare(short, memory, row, what)
                    _open(gdb, short, vmlinux, memory, there, row, what)
            except (TimeoutError, EOFError, BrokenPipeError) as error:
                row.count("gdb died", f"{what}: {type(error).__name__}: {str(error)[-300:]!r}")


def _compare(short: Path, memory: _Memory, row: Row, what: str) -> dict[int, Known]:
    """Every page is as in the whole dump, or TRUNCATED, and as many are missing as the dump server says."""
    try:
        server = Server.start(str(short))
    except DumpError as error:
        row.count("refused", "" if "truncated" in str(error) else f"{what}: {error}")
        return {}
    report = server.info().report
    # An ELF dump ends with its last segment, whatever the file has of it.
    there = _read(server, memory, [pfn for pfn in memory.pages if pfn < server.info().max_pfn])
    lost = sum(found is Why.TRUNCATED and isinstance(memory.pages[pfn], str) for pfn, found in there.items())
    wrong = sum(found is not Why.TRUNCATED and found != memory.pages[pfn] for pfn, found in there.items())
    failure = f"{what}: {wrong} pages differ from the whole dump's" if wrong else ""
    if f"{report.pages_missing:,} of {report.pages:,} pages are missing" not in report.sentence:
        failure = f"{what}: the report says {report.sentence!r}"
    row.count("compared", failure)
    row.most("most pages lost", lost)
    return there


def _open(
    gdb: Gdb, short: Path, vmlinux: Path, memory: _Memory, there: dict[int, Known], row: Row, what: str
) -> None:  # fmt: skip
    """gdb opens it, says what is missing and reads the same, or says in one sentence why not; and lives."""
    started = time.monotonic()
    said = gdb.ask(f"target kdump {short} {vmlinux}") + gdb.ask("kbt")
    row.most("longest gdb s", time.monotonic() - started)
    is_open = "MISSING: " in said
    failure = ""
    if any(bad in said for bad in _BAD):
        failure = f"{what}: {said[-300:]!r}"
    elif "missing" not in said:
        failure = f"{what}: nothing says what is missing: {said[:300]!r}"
    row.count("gdb opened it" if is_open else "gdb said why not", failure)
    if is_open:
        _read_in_gdb(gdb, short.parent, memory, there, row, what)


def _read_in_gdb(gdb: Gdb, folder: Path, memory: _Memory, there: dict[int, Known], row: Row, what: str) -> None:
    """GDB has the same bytes as the server, and no others."""
    source, pfns = random.Random(what), list(there)
    turns = [
        at for at in range(1, len(pfns)) if (there[pfns[at - 1]] is Why.TRUNCATED) != (there[pfns[at]] is Why.TRUNCATED)
    ]
    at_cut = {near for at in turns[:AT_CUT] for near in pfns[max(0, at - 2) : at + 2]}
    chosen = sorted({*at_cut, *source.sample(pfns, min(SAMPLE, len(pfns)))})
    asked, answer = folder / "asked", folder / "answer"
    asked.write_text(json.dumps([memory.address(pfn) for pfn in chosen]))
    said = gdb.ask(f"python read_pages({str(asked)!r}, {str(answer)!r})")
    wrong, out_of_reach = [], 0
    for pfn, found in zip(chosen, json.loads(answer.read_text()), strict=True):
        state = there[pfn]
        known = state if isinstance(state, str) else state.name
        # A session that has lost page tables, and the variable that says where the direct map is, reaches less.
        out_of_reach += found == "TRUNCATED" != known
        if found not in ("TRUNCATED", known):
            wrong.append(f"page {pfn:#x}: {known} became {found}")
    for name, count in (("pages read in gdb", len(chosen)), ("out of its reach", out_of_reach)):
        row.figures[name] = row.figures.get(name, 0) + count
    row.count("read in gdb", f"{what}: {len(wrong)} pages, {wrong[0]} {said}" if wrong else "")
