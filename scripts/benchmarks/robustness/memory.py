"""Damaged kernel memory: words of tasks, stacks, sk_buffs, slabs, modules, the log and others are overwritten in an
uncompressed copy of the dump, and every command must end in time, with an answer or with an error of ours.

One gdb opens the copy again and again (in_gdb_memory.py); a new one takes over where one died or hung.
"""

import json
import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.robustness.rows import SMALL, Row
from benchmarks.tools import ROOT, Dump

IN_GDB = Path(__file__).with_name("in_gdb_memory.py")
ROUNDS = {SMALL: 30, "full": 740}  # with about three mutations each
BOUND_SECONDS = 60  # for one command, on a machine that has other work too
START_SECONDS = 300  # with an index of vmlinux to be made
_ADDRESS_SPACE = 6 << 30
_STUCK = "hung"


def measure(dump: Dump, size: str, seed: int = 1) -> list[Row]:
    """A row for each kind of memory that was damaged."""
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        copy = Path(folder, "vmcore")
        subprocess.run(["makedumpfile", "-d", "0", dump.vmcore, copy], check=True, capture_output=True)
        first, rounds = 0, ROUNDS[size]
        while first < rounds:
            first = _run(copy, dump.vmlinux, Path(folder), seed, first, rounds, rows)
    return list(rows.values())


def _run(copy: Path, vmlinux: Path, folder: Path, seed: int, first: int, rounds: int, rows: dict[str, Row]) -> int:
    """One gdb: the rounds from `first` on, until it ends; returns the round to go on with."""
    report, errors = folder / "report", folder / "stderr"
    report.write_text("")
    words = [seed, first, rounds, str(copy), str(vmlinux), str(report), str(errors)]
    command = [
        "gdb", "-nx", "-batch", "-ex", f"source {ROOT / 'gdb_kdump' / 'init.py'}", "-ex", f"source {IN_GDB}",
        "-ex", f"python run(*{words!r})",
    ]  # fmt: skip
    with errors.open("w") as stream:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stream,
            env=os.environ | {"TERM": "dumb", "DEBUGINFOD_URLS": ""},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE)),
        )  # fmt: skip
        is_stuck = _wait(process, report)
    begun: dict[str, Any] = {"round": first - 1}
    for line in report.read_text().splitlines():
        record = json.loads(line)
        if record["what"] == "begin":
            begun = record
            row = rows.setdefault(record["kind"], Row("memory", record["kind"]))
            row.figures["mutations"] = row.figures.get("mutations", 0) + record["mutations"]
        else:
            where = f"seed {seed} round {begun['round']}: {record['command']}: {record['failure']}"
            row.count(record["outcome"], where if record["failure"] else "")
            row.most("longest s", record["seconds"])
            row.most("output MB", record["bytes"] / 1e6)
    if begun["round"] == rounds - 1 and process.returncode == 0:
        return rounds
    row = rows.setdefault(str(begun.get("kind", "start")), Row("memory", str(begun.get("kind", "start"))))
    how = _STUCK if is_stuck else f"GDB ended with status {process.returncode}"
    last = [line for line in errors.read_text(errors="replace").splitlines() if line.strip()][-1:]
    row.count(how, f"seed {seed} round {begun['round']}: {how} in {report_tail(report)} {last}")
    if "kind" not in begun:
        return rounds  # it never came to a round, and the next one would not either
    return int(begun["round"]) + 1


def report_tail(report: Path) -> str:
    """The command after which nothing was reported any more."""
    current = report.with_suffix(".current")
    return current.read_text() if current.exists() else "the start"


def _wait(process: "subprocess.Popen[bytes]", report: Path) -> bool:
    """Wait for the end; a gdb that reports nothing for too long is stuck, and killed."""
    size, since = -1, time.monotonic()
    while process.poll() is None:
        time.sleep(0.2)
        now = report.stat().st_size
        if now != size:
            size, since = now, time.monotonic()
        elif time.monotonic() - since > (BOUND_SECONDS if size else START_SECONDS):
            process.kill()
            process.wait()
            return True
    return False
