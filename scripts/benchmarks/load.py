"""Dumps of 50,000 tasks, a million sk_buffs, 2,000 modules, or a terabyte: what they take, and how that grows."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.tools import CACHE, IN_GDB, ROOT, Dump, Figures, Program, documents, gdb_version, seconds
from benchmarks.tools import measure as run_all

sys.path.append(str(ROOT / "tests"))

from fixtures.load import write_load  # type: ignore[import-not-found]  # it stands with the tests

QUEUE = "skbwalk &socket_of_all --queue receive"


@dataclass(frozen=True)
class Load:
    """What there is much of, in two sizes, and the commands that it is much for."""

    what: str
    argument: str
    small: int
    large: int
    commands: Sequence[str] = ()


LOADS = {
    "tasks": Load("tasks", "tasks", 10_000, 50_000, ("kps", "kps --json", "kbt --group", "kbt --group --json")),
    "skbs": Load("sk_buffs on one queue", "skbs", 100_000, 1_000_000, (QUEUE, f"{QUEUE} --json")),
    "modules": Load("modules", "modules", 200, 2_000, ("kmod", "kmod --json")),
    "memory": Load("pages dumped of 1 TiB", "spread", 6_000_000, 24_000_000, ("kps",)),
}


def make(name: str) -> Load:
    """The load of that name, for `measure`; raises SystemExit where there is none."""
    if name not in LOADS:
        raise SystemExit(f"scripts/bench load: no load {name}; there are: {', '.join(LOADS)}")
    return LOADS[name]


def measure(load: Load, name: str, repetitions: int) -> dict[str, Any]:
    """Makes the two dumps, measures both, prints a table of times and memory and of how they grow."""
    results: dict[int, list[Figures]] = {}
    for count in (load.small, load.large):
        folder = CACHE / "load" / f"{name}-{count}"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            made = write_load(folder, **{load.argument: count})
            dump = Dump(made.vmcore, made.vmlinux, ())
            results[count] = run_all([_program(dump, command) for command in ("", *load.commands)], repetitions)
        finally:
            shutil.rmtree(folder)  # hundreds of megabytes, made within seconds
    _show(load, results, repetitions)
    return {"dump": name, **{str(count): documents(figures) for count, figures in results.items()}}


def _program(dump: Dump, command: str) -> Program:
    """A gdb that measures a command on the dump, or opening it where there is none."""
    opening = f"target kdump {dump.vmcore}"
    measured = f"python measure_load({command or opening!r})"
    lines = [f"source {ROOT / 'gdb_kdump' / 'init.py'}", *([opening] if command else []), f"source {IN_GDB}", measured]
    arguments = [word for line in lines for word in ("-ex", line)]
    return Program(command or "open", gdb_version(), ("gdb", "-nx", "-batch", *arguments))


def _show(load: Load, results: dict[int, list[Figures]], repetitions: int) -> None:
    small, large = results[load.small], results[load.large]
    print(f"\nload: {load.small:,} and {load.large:,} {load.what}, {load.large / load.small:g} times as many; "
          f"median of {repetitions} runs")  # fmt: skip
    print(f"  {'':30} {'time':>19}  {'processor':>19}  {'times':>5}  {'gdb at most':>14}  {'server at most':>14}")
    for few, many in zip(small, large, strict=True):
        failed = few.failed or many.failed
        text = f"not measured: {failed}" if failed else "  ".join(_cells(few, many))
        print(f"  {few.name.replace(' --queue receive', ''):30} {text}")


def _cells(few: Figures, many: Figures) -> list[str]:
    """The columns of one command: seconds by the clock, of the processor and how those grow, and memory."""
    names = ("inside", "processor", "gdb_peak", "server_peak")
    clock, processor, gdb, server = ((few.median(name), many.median(name)) for name in names)
    return [_seconds(clock), _seconds(processor), f"{processor[1] / processor[0]:5.1f}", _size(gdb), _size(server)]


def _seconds(pair: tuple[float, float]) -> str:
    return f"{seconds(pair[0]):>8} / {seconds(pair[1]):>8}"


def _size(pair: tuple[float, float]) -> str:
    return f"{pair[0] / 1e6:4.0f} / {pair[1] / 1e6:4.0f} MB"
