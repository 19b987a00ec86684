"""Sourced in a gdb that has a dump open: measures one thing and writes lines "NAME NUMBER" to $BENCH_RESULT."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdb

from gdb_kdump.kernel.net.queue_walk import SkbFigures
from gdb_kdump.kernel.net.sock import Socks
from gdb_kdump.records.queue import Role
from gdb_kdump.session import current


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
