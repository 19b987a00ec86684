"""A queue of 150,000 sk_buffs: walked with len and nr_frags beside drgn, and all of the dump judged by skbcheck."""

import json
from typing import Any

from benchmarks.tools import (
    DRGN,
    IN_DRGN,
    Dump,
    Figures,
    Program,
    crash_version,
    documents,
    drgn_python,
    gdb_command,
    gdb_version,
    row,
    seconds,
)
from benchmarks.tools import measure as run_all

DUMPS = ["6.1-flood", "6.12-flood"]
TOO_SLOW = "it takes minutes for such a queue"
READING, CHECKING = "gdb-kdump: reading through the API", "gdb-kdump: skbcheck --all"
DRGN_WAYS = {"walk-objects": "drgn: objects", "walk-offsets": "drgn: offsets and read_u64"}


def measure(dump: Dump, name: str, repetitions: int) -> dict[str, Any]:
    """Measures one dump and prints a table."""
    sock, count = _longest_queue(dump)
    results = run_all(programs(dump, sock), repetitions)
    for result in results:
        _distrust(result, count)
    print(f"\nwalk {name}: len and nr_frags of {count} sk_buffs on one queue, median of {repetitions} runs")
    print(f"  {'':44} {'inside':>10} {'process':>10} {'growth':>10} {'at most':>10}")
    for result in results:
        print(row(result, ("inside", "whole", "growth", "peak_growth"), _cell))
    _show_ratios(results)
    return {"dump": name, "skbs": count, "results": documents(results)}


def programs(dump: Dump, sock: str) -> list[Program]:
    """What is measured on one dump."""
    version, walk = gdb_version(), f"skbwalk {sock} --queue receive --json"
    found = [
        Program(READING, version, gdb_command(dump, f"measure_reading({sock})")),
        Program("gdb-kdump: skbwalk --json", version, gdb_command(dump, f"measure_command({walk!r})")),
        Program(CHECKING, version, gdb_command(dump, "measure_command('skbcheck --all --json')")),
    ]
    python = str(drgn_python())
    for way, name in DRGN_WAYS.items():
        found.append(Program(name, DRGN, (python, str(IN_DRGN), str(dump.vmcore), str(dump.vmlinux), way, sock)))
    return [*found, Program("crash", crash_version(), note=TOO_SLOW)]


def _longest_queue(dump: Dump) -> tuple[str, int]:
    """The socket (address) with the longest receive queue, and its length."""
    truth = json.loads(dump.vmcore.with_suffix(".truth.json").read_text())
    queues = [(queue["members"], sock["sock"]) for sock in truth["socks"] for queue in sock["queues"]
              if queue["queue"] == "receive"]  # fmt: skip
    count, sock = max(queues)
    return sock, count


def _distrust(result: Figures, count: int) -> None:
    """A walk that missed something is no measurement."""
    walked = result.runs.get("skbs", [count])
    if set(walked) != {count}:
        result.failed = f"it walked {walked[0]:.0f} sk_buffs"


def _cell(name: str, value: float) -> str:
    return f"{value / 1e6:.0f} MB" if "growth" in name else seconds(value)


def _show_ratios(results: list[Figures]) -> None:
    by_name = {result.name: result for result in results if not result.failed}
    for name in DRGN_WAYS.values():
        if READING in by_name and name in by_name:
            ratio = by_name[READING].median("inside") / by_name[name].median("inside")
            print(f"  {READING} takes {ratio:.2f} of the time of {name}")
    if READING in by_name:
        print(f"  of which GDB takes {seconds(by_name[READING].median('types'))} to find the types, once in a session")
