"""Sourced in a gdb that has a dump open: measures one thing and writes lines "NAME NUMBER" to $BENCH_RESULT."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import gdb

from gdb_kdump.errors import Why
from gdb_kdump.kernel.skbqueues import SkbQueues
from gdb_kdump.kernel.sock import Socks
from gdb_kdump.session import current


def measure_command(command: str) -> None:
    """Run a command of gdb; what it prints goes to gdb's stdout."""
    _measure(lambda: gdb.execute(command))


def measure_traces(command: str) -> None:
    """Run a command that prints the trace of every thread."""
    measure_command(command)
    _write("traces", len(gdb.selected_inferior().threads()))


def measure_reading(sock: int) -> None:
    """Read len and nr_frags of every sk_buff on the receive queue of a `struct sock *`."""
    lengths, frags = 0, 0

    def read() -> None:
        nonlocal lengths, frags
        started = time.monotonic()
        current().once(Socks).read(sock)
        _write("types", time.monotonic() - started)  # what GDB takes to find them in the debug information
        walked = current().once(Socks).walked(sock, "receive", nr_frags=True)
        numbers = current().once(SkbQueues).nr_frags(walked)
        lengths = walked.queue.bytes
        frags = sum(number for number in numbers.values() if not isinstance(number, Why))
        _write("skbs", len(walked.figures))

    _measure(read)
    _write("bytes", lengths)
    _write("frags", frags)


def _measure(action: Callable[[], object]) -> None:
    """The seconds that an action takes, and by how much the memory of gdb grows: at most, and what stays."""
    before = _memory("VmRSS")
    started = time.monotonic()
    action()
    _write("inside", time.monotonic() - started)
    _write("peak_growth", max(_memory("VmHWM") - before, 0))
    _write("growth", _memory("VmRSS") - before)


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def _write(name: str, value: float) -> None:
    with open(os.environ["BENCH_RESULT"], "a") as file:
        file.write(f"{name} {value}\n")
