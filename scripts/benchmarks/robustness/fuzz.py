"""Mutants of dump files, through the dump server and, a sample of them, through gdb.

A server for each mutant, forked from this process, which has its modules already: opening, VMCOREINFO and reads of
sampled addresses.  It may die of what it reads, but not hang, not grow without bound, and not fail in our own code.
"""

import importlib
import json
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.robustness.mutants import Layout, Patch, layout_of, mutant
from benchmarks.robustness.rows import SMALL, Row
from benchmarks.tools import ROOT, Dump

sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from gdb_kdump.channel.wire import HELLO, MAX_MESSAGE, READ, REPLY, REQUEST, Op, Status  # noqa: E402
from gdb_kdump.dump import server  # noqa: E402

writer: Any = importlib.import_module("kdumpfile_writer")  # of tests/
image: Any = importlib.import_module("memory_image_writer")

MUTANTS = {SMALL: 500, "full": 11_000}
IN_GDB = {SMALL: 6, "full": 300}
LIME = "LiME"
BOUND_SECONDS = 30
_LOOKING = 1 << 16  # the number of that request
_MOST_MEMORY = 1 << 30  # resident
_PAGES = (writer.DIRECT_MAP + 0x100000, writer.DIRECT_MAP + 0x205000, writer.VMALLOC + 0x3000,
          writer.IMAGE_MAP + 0x110000, writer.DIRECT_MAP + 0x1002000, 0xFFFFFFFFFFFFF000, 0x1000)  # fmt: skip


def measure(dump: Dump, size: str, seed: int = 1) -> list[Row]:
    """A row for each kind of file through the server, and one for the sample through gdb."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        files = dict(_files(folder, dump))
        share = MUTANTS[size] // len(files)
        for number, (kind, path) in enumerate(files.items()):
            rows.append(_through_server(kind, path, share, seed * 1000 + number))
        rows.append(_through_gdb(files["6.1 zlib"], dump, IN_GDB[size], seed))
    return rows


def _files(folder: Path, dump: Dump) -> Iterator[tuple[str, Path]]:
    """Small dumps of every container, and a real one."""
    kernel = writer.small_kernel()
    kernel.excluded = {0x105}
    for kind in ("raw", "zlib", "lzo", "zstd"):
        path = folder / kind
        writer.write_kdump(path, kernel, method=kind)
        yield kind, path
    writer.write_elf(folder / "elf", kernel)
    yield "elf", folder / "elf"
    for kind in ("zlib", "elf"):
        writer.flatten(folder / kind, folder / f"flattened {kind}")
        yield f"flattened {kind}", folder / f"flattened {kind}"
    real = folder / "real"
    real.write_bytes(dump.vmcore.read_bytes())
    yield "6.1 zlib", real
    image.write_lime(folder / LIME, image.silent_kernel(image.FOUR_GIB // image.PAGE + image.HIGH, high=True))
    yield LIME, folder / LIME


@contextmanager
def damaged(path: Path, patches: list[Patch]) -> Iterator[None]:
    """The file with its bytes replaced, while it lasts."""
    with path.open("r+b") as file:
        undo = []
        for at, new in patches:
            file.seek(at)
            undo.append((at, file.read(len(new))))
            file.seek(at)
            file.write(new)
        file.flush()
        try:
            yield
        finally:
            for at, old in reversed(undo):
                file.seek(at)
                file.write(old)


def _through_server(kind: str, path: Path, count: int, seed: int) -> Row:
    row, data = Row("fuzz", f"server: {kind}"), path.read_bytes()
    layout, addresses = layout_of(data), _addresses(data)
    for number in range(count):
        source = random.Random(f"{seed} {number}")
        region, patches = mutant(source, data, layout)
        with damaged(path, patches):
            started = time.monotonic()
            outcome, failure, memory = serve(path, source.sample(addresses, min(8, len(addresses))), kind == LIME)
            row.most("longest s", time.monotonic() - started)
        row.most("memory MB", memory / 1e6)
        if memory > _MOST_MEMORY:
            failure = failure or f"{memory / 1e6:.0f} MB"
        where = f"seed {seed} mutant {number} ({region}): {failure}"
        row.count(outcome, where if failure else "")
    return row


def _addresses(data: bytes) -> list[int]:
    """Where a session reads at its start: the symbols of VMCOREINFO, and what the small dumps have."""
    symbols = [int(value, 16) for value in re.findall(rb"SYMBOL\(\w+\)=([0-9a-f]+)\n", data)]
    return [*symbols, *_PAGES, *(address & -4096 for address in symbols)]


def serve(path: Path, addresses: list[int], looks_for_kernel: bool = False) -> tuple[str, str, int]:
    """One server: what came of it, what went wrong, and its largest resident set (bytes)."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("")  # a name that the kernel makes up
    listener.listen(1)
    words = os.memfd_create("stderr")
    parent = os.getpid()
    child = os.fork()
    if not child:
        code = 1
        try:
            ours.close()
            os.dup2(words, 2)
            code = server.main(str(theirs.fileno()), str(listener.fileno()), str(parent), "", str(path))
        finally:
            if sys.exc_info()[0]:
                traceback.print_exc()
            os._exit(code)  # a process of its own, which must not go on as this one
    theirs.close()
    listener.close()
    outcome = _talk(ours, addresses, looks_for_kernel)
    ours.close()
    status, memory = _wait(child)
    said = os.pread(words, 1 << 16, 0).decode(errors="replace").strip()
    os.close(words)
    if outcome == "hung" or status is None:
        return "hung", "hung", memory
    if os.WIFSIGNALED(status):
        return f"died {signal.Signals(os.WTERMSIG(status)).name}", "", memory
    if os.WEXITSTATUS(status):
        return "failed", said[-800:].replace("\n", " | "), memory
    return outcome, "", memory


def _talk(channel: socket.socket, addresses: list[int], looks_for_kernel: bool) -> str:
    """Hear its hello, have the kernel found, ask for memory: "opened", "refused", "no kernel", "gone" or "hung"."""
    status = _answer(channel, HELLO)
    if status is not Status.OK:
        return {Status.ERROR: "refused", Status.NO_LIBRARY: "no library", None: "gone"}.get(status, "hung")
    if looks_for_kernel:
        wanted = {"banner": image.BANNER.hex(), "symbols": image.symbols(), "kaslr_offset": None}
        channel.send(REQUEST.pack(_LOOKING, Op.FIND_KERNEL) + json.dumps(wanted).encode())
        status = _answer(channel, _LOOKING)
        if status is not Status.OK:
            return {Status.ERROR: "no kernel", None: "gone"}.get(status, "hung")
    for number, addr in enumerate(addresses, start=1):
        size = min(4096 * (1 + number % 3), (1 << 64) - addr)
        try:
            channel.send(REQUEST.pack(number, Op.READ) + READ.pack(addr, size))
        except OSError:
            return "gone"
        status = _answer(channel, number)
        if status is None:
            return "gone"
        if status is Status.MORE:
            return "hung"
    return "opened"


def _answer(channel: socket.socket, number: int) -> Status | None:
    """How it answers a request; None when it is gone, MORE when nothing comes."""
    deadline = time.monotonic() + BOUND_SECONDS
    while select.select([channel], [], [], max(0, deadline - time.monotonic()))[0]:
        try:
            message = channel.recv(MAX_MESSAGE)
        except ConnectionError:
            return None
        if not message:
            return None
        found, status = REPLY.unpack_from(message)
        if found == number and status != Status.MORE:
            return Status(status)
    return Status.MORE


def _wait(child: int) -> tuple[int | None, int]:
    """The wait status, None where it had to be killed, and its largest resident set (bytes)."""
    deadline = time.monotonic() + BOUND_SECONDS
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            return status, usage.ru_maxrss * 1024
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.wait4(child, 0)
            return None, 0
        time.sleep(0.002)


def _through_gdb(path: Path, dump: Dump, count: int, seed: int) -> Row:
    row, data = Row("fuzz", "gdb -batch: 6.1 zlib"), path.read_bytes()
    layout: Layout = layout_of(data)
    commands = [f"source {ROOT / 'gdb_kdump' / 'init.py'}", f"target kdump {path}", "kinfo", "kps", "kbt", "bt 5",
                "ksock", "print 6 * 7"]  # fmt: skip
    words = ["gdb", "-nx", "-batch", *(word for command in commands for word in ("-ex", command))]
    for number in range(count):
        region, patches = mutant(random.Random(f"{seed} gdb {number}"), data, layout)
        where = f"seed {seed} gdb mutant {number} ({region})"
        with damaged(path, patches):
            try:
                done = subprocess.run(
                    words, check=False, text=True, errors="replace", timeout=4 * BOUND_SECONDS,
                    stdin=subprocess.DEVNULL, capture_output=True,
                    env=os.environ | {"TERM": "dumb", "DEBUGINFOD_URLS": ""},
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                row.count("hung", f"{where}: no end")
                continue
        row.count(*_judge(done, path, where))
    return row


def _judge(done: "subprocess.CompletedProcess[str]", path: Path, where: str) -> tuple[str, str]:
    """What came of a gdb, and what was wrong with it."""
    if "= 42" not in done.stdout:
        return "GDB died", f"{where}: status {done.returncode}: {done.stderr[-300:]!r}"
    for sign in ("Traceback", "Python Exception", "Error occurred in Python", "internal-error"):
        if sign in done.stderr + done.stdout:
            return "bug", f"{where}: {done.stderr[-1200:]!r}"
    death = re.search(r"the dump server .*died \(SIG\w+\)[^\n]*", done.stderr)
    if death:
        return "server died", "" if str(path) in death[0] else f"{where}: no file in {death[0]!r}"
    return ("refused" if "target kdump:" in done.stderr else "opened"), ""
