"""Truncated dumps: one memory in seven containers, each cut off at 23 places.

gdb must outlive each, and say how much is missing, or in one sentence why the dump cannot be opened; and every page
that the whole dump has must be the same, or TRUNCATED: never zeros.
"""

import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.robustness.rows import SMALL, Row
from benchmarks.tools import ROOT, Dump

sys.path.insert(0, str(ROOT))

from gdb_kdump.channel import Server
from gdb_kdump.elf import ElfFile
from gdb_kdump.errors import DumpError, Why
from gdb_kdump.vmcoreinfo import offset_of, parse_vmcoreinfo
from gdb_kdump.wire import MAX_READ, Hole

CONTAINERS = ("raw", "zlib", "lzo", "snappy", "zstd", "elf", "flattened")
PARTS = 24
CUTS = {SMALL: (2, 11, 23), "full": tuple(range(1, PARTS))}
_PAGE = 4096
_TRANSCODE = ROOT / "tests" / "transcode.py"
_BAD = ("Traceback", "internal-error", "Python Exception", "SIGSEGV", "SIGBUS")

Known = bytes | Why


def measure(dump: Dump, size: str) -> list[Row]:
    """A row for each container; figures are of the largest cut file that could be opened, and the slowest gdb."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        raw, whole, short = Path(folder, "raw"), Path(folder, "whole"), Path(folder, "short")
        subprocess.run(["makedumpfile", "-d", "0", dump.vmcore, raw], check=True, capture_output=True)
        direct_map = _direct_map(dump)
        pages = list(_pages(Server.start(str(raw)), direct_map))
        for container in CONTAINERS:
            subprocess.run([sys.executable, _TRANSCODE, raw, container, whole], check=True)
            row = Row("truncation", container)
            if [*_pages(Server.start(str(whole)), direct_map)] != pages:
                row.failures.append(f"{container}: the whole dump has other bytes")
            for part in CUTS[size]:
                _cut(whole, short, part)
                _compare(short, direct_map, pages, row, f"{container} at {part}/{PARTS}")
                _open(short, dump.vmlinux, row, f"{container} at {part}/{PARTS}")
            rows.append(row)
    return rows


def _direct_map(dump: Dump) -> int:
    """Where the kernel maps all physical memory."""
    symbol = ElfFile(dump.vmlinux).find_symbol("page_offset_base")
    assert symbol is not None
    with Server.start(str(dump.vmcore)) as server:
        offset = offset_of(parse_vmcoreinfo(server.info()["vmcoreinfo"]), {}) or 0
        (found,) = server.read(symbol.value + offset, 8)
    assert isinstance(found, bytes)
    return int.from_bytes(found, "little")


def _pages(server: Server, direct_map: int) -> Iterator[Known]:
    """A digest of each page of physical memory, or why it has none."""
    with server:
        server.set_direct_map(direct_map)
        for start in range(direct_map, direct_map + server.info()["max_pfn"] * _PAGE, MAX_READ):
            for run in server.read(start, MAX_READ):
                if isinstance(run, Hole):
                    yield from [run.why] * (run.size // _PAGE)
                else:
                    for at in range(0, len(run), _PAGE):
                        yield hashlib.blake2b(run[at : at + _PAGE], digest_size=8).digest()


def _cut(whole: Path, short: Path, part: int) -> None:
    short.write_bytes(whole.read_bytes()[: whole.stat().st_size * part // PARTS])


def _compare(short: Path, direct_map: int, pages: list[Known], row: Row, what: str) -> None:
    """Every page is as in the whole dump, or TRUNCATED, and as many are missing as the dump server says."""
    try:
        server = Server.start(str(short))
    except DumpError as error:
        row.count("refused", "" if "truncated" in str(error) else f"{what}: {error}")
        return
    report = server.info()["preflight"]
    lost = wrong = 0
    # An ELF dump ends with its last segment, whatever the file has of it.
    for known, found in zip(pages, _pages(server, direct_map), strict=False):
        lost += isinstance(known, bytes) and found is Why.TRUNCATED
        wrong += found != known and found is not Why.TRUNCATED
    failure = f"{what}: {wrong} pages differ from the whole dump's" if wrong else ""
    if f"{report['pages_missing']:,} of {report['pages']:,} pages are missing" not in report["sentence"]:
        failure = f"{what}: the report says {report['sentence']!r}"
    row.count("compared", failure)
    row.most("most pages lost", lost)


def _open(short: Path, vmlinux: Path, row: Row, what: str) -> None:
    """A gdb of its own opens it, or says in one sentence why not, and lives."""
    started = time.monotonic()
    command = ["gdb", "-nx", "-batch", "-ex", f"source {ROOT / 'gdb_kdump' / 'init.py'}",
               "-ex", f"target kdump {short} {vmlinux}", "-ex", "kbt", "-ex", "echo alive\\n"]  # fmt: skip
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    row.most("longest gdb s", time.monotonic() - started)
    said = done.stdout.decode(errors="replace")
    is_open = "MISSING: " in said
    failure = ""
    if done.returncode < 0 or not said.rstrip().endswith(("alive", "detached]")) or any(bad in said for bad in _BAD):
        failure = f"{what}: gdb ended with {done.returncode}: {said[-300:]!r}"
    elif "missing" not in said:
        failure = f"{what}: nothing says what is missing: {said[:300]!r}"
    row.count("gdb opened it" if is_open else "gdb said why not", failure)
