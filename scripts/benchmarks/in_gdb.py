"""Sourced in a gdb that has a dump open: measures one thing and writes lines "NAME NUMBER" to $BENCH_RESULT."""

import json
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gdb

from gdb_kdump.commands.arguments import parse
from gdb_kdump.commands.ksearch import Ksearch, pattern_of
from gdb_kdump.kernel.net.queue_walk import SkbFigures
from gdb_kdump.kernel.net.sock import Socks
from gdb_kdump.kernel.search import search
from gdb_kdump.kernel.search_areas import physical_memory
from gdb_kdump.records.queue import Role
from gdb_kdump.records.search import Searched
from gdb_kdump.session import current
from gdb_kdump.walks import Gaps

_AT_ONCE = 200  # addresses in one command


def measure_command(command: str) -> None:
    """Run a command of gdb; what it prints goes to gdb's stdout."""
    _measure(lambda: gdb.execute(command))


def measure_load(command: str) -> None:
    """Run a command that needs a dump, or opens one; how large gdb and its dump server have been at most, and the
    seconds that the processor spent on both: on a busy machine they say more than the clock."""
    before = _processor_seconds()
    measure_command(command)
    _write("processor", _processor_seconds() - before)
    _write("gdb_peak", _memory("VmHWM"))
    _write("server_peak", _memory("VmHWM", _servers()[0]))


def _servers() -> list[str]:
    """The PIDs of gdb's children: the dump server, if there is one yet."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def _processor_seconds() -> float:
    """User and system time of gdb and its dump server."""
    of_server = [
        int(ticks)
        for server in _servers()
        for ticks in Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[11:13]
    ]
    return time.process_time() + sum(of_server) / os.sysconf("SC_CLK_TCK")


def measure_traces(command: str) -> None:
    """Run a command that prints the trace of every thread."""
    measure_command(command)
    _write("traces", len(gdb.selected_inferior().threads()))


def measure_reading(sock: int) -> None:
    """Read len and nr_frags of every sk_buff on the receive queue of a `struct sock *`."""
    found: list[Any] = []  # kept until the clock has stopped

    def read() -> None:
        started = time.monotonic()
        current().once(Socks).read(sock)
        _write("types", time.monotonic() - started)  # what GDB takes to find them in the debug information
        walked = current().once(Socks).walked(sock, Role.RECEIVE, nr_frags=True)
        numbers = current().once(SkbFigures).nr_frags(walked)
        # A number that could not be read is a Why: its sum fails, and with it the measurement.
        found.extend((walked, numbers, sum(numbers.values())))  # type: ignore[arg-type]

    _measure(read)
    walked, _, frags = found
    _write("skbs", len(walked.figures))
    _write("bytes", walked.queue.bytes)
    _write("frags", frags)


def measure_search(words: str) -> None:
    """Have the reader search all of memory for what `ksearch` would be told so: physical addresses."""
    pattern, areas = pattern_of(parse(words, Ksearch.options)), physical_memory(current())
    found: list[Searched] = []
    _together(lambda: found.append(search(current(), pattern, areas, Gaps())))
    _write("hits", len(found[0].hits))
    _write("places", _sign(found[0].hits))


def measure_searching(words: str) -> None:
    """The same by the command, which names what it finds."""
    said: list[str] = []
    _together(lambda: said.append(gdb.execute(f"ksearch -p --json {words}", to_string=True)))
    hits = [int(hit["address"], 16) for hit in json.loads(said[0])["hits"]]
    _write("hits", len(hits))
    _write("places", _sign(hits))


def _sign(addresses: Iterable[int]) -> int:
    """A number that other addresses would not have; in_drgn.py makes the same."""
    return zlib.crc32(",".join(map(str, sorted(addresses))).encode())


def _together(action: Callable[[], object]) -> None:
    """The seconds that an action takes, and by how much gdb and all processes that it has started grow at most."""
    before, peak, ended = _all_memory(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.02):
            peak = max(peak, _all_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    _measure(action)
    ended.set()
    watcher.join()
    _write("together", max(0, max(peak, _all_memory()) - before))


def _all_memory(process: str = "self") -> int:
    """The resident sets of a process and its children, in bytes; what they share counts for each."""
    try:
        pid = os.getpid() if process == "self" else int(process)
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return _memory("VmRSS", process) + sum(map(_all_memory, children))
    except (OSError, StopIteration):  # it has ended
        return 0


def measure_what(addresses: str, answers: str) -> None:
    """Ask kwhat for every address of a file, a line each, and write what it says to another file, as JSON.

    The first one is asked for alone: everything that has an owner is then found.
    """
    first, *others = Path(addresses).read_text().split()
    started, before = time.monotonic(), _processor_seconds()
    said = _kwhat([first])
    _write("cold", time.monotonic() - started)
    _write("cold_processor", _processor_seconds() - before)
    before = _processor_seconds()

    def ask() -> None:
        for number in range(0, len(others), _AT_ONCE):
            said.extend(_kwhat(others[number : number + _AT_ONCE]))

    _measure(ask)
    _write("processor", _processor_seconds() - before)
    Path(answers).write_text(json.dumps(said))
    _write("addresses", len(others))


def _kwhat(addresses: list[str]) -> list[Any]:
    document = json.loads(gdb.execute("kwhat --json " + " ".join(addresses), to_string=True) or "")
    return document if isinstance(document, list) else [document]


def _measure(action: Callable[[], object]) -> None:
    """The seconds that an action takes, and by how much the memory of gdb grows: at most, and what stays."""
    before = _memory("VmRSS")
    started = time.monotonic()
    action()
    _write("inside", time.monotonic() - started)
    _write("peak_growth", max(_memory("VmHWM") - before, 0))
    _write("growth", _memory("VmRSS") - before)


def _memory(field: str, process: str = "self") -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def _write(name: str, value: float) -> None:
    with open(os.environ["BENCH_RESULT"], "a") as file:
        file.write(f"{name} {value}\n")
