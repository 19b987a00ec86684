"""A search of all of a dump whose pages zlib has compressed, beside drgn: both must find the same places."""

import json
import subprocess
from typing import Any

from benchmarks.tools import (
    CACHE,
    DRGN,
    IN_DRGN,
    Dump,
    Figures,
    Program,
    documents,
    drgn_python,
    gdb_command,
    gdb_version,
    row,
    seconds,
)
from benchmarks.tools import measure as run_all

DUMPS = ["6.1-reference", "6.12-reference"]
READER, COMMAND, NAMED = "gdb-kdump: the reader", "gdb-kdump: ksearch -n --json", "gdb-kdump: ksearch --json"
PEER = "drgn: search_memory"
# What is searched for: as ksearch is told it, and as in_drgn.py is.
WANTED = {
    "a pointer": ("&init_task", "u64 init_task"),
    "pointers into an object": ("-r &init_task:&init_task+1", "range init_task"),
    "words without 12 bits": ("-m 0xfff &init_task", "mask init_task"),
    "a string": ("-c swapper/0", "text swapper/0"),
}


def measure(dump: Dump, name: str, repetitions: int) -> dict[str, Any]:
    """Measures one dump and prints a table for each thing that is searched for."""
    copy = _by_zlib(dump, name)
    size = copy.vmcore.stat().st_size / 1e6
    document: dict[str, Any] = {"dump": name, "failures": [], "ratios": {}, "results": {}}
    for what, (words, of_drgn) in WANTED.items():
        results = run_all(programs(copy, words, of_drgn), repetitions)
        failed = _distrust(results)
        document["failures"] += failed
        print(f"\nsearch {name} ({size:.0f} MB, zlib) for {what}, median of {repetitions} runs")
        print(f"  {'':44} {'inside':>10} {'process':>10} {'hits':>10} {'memory':>10}")
        for result in results:
            print(row(result, ("inside", "whole", "hits", "together"), _cell))
        print(*(f"  {sentence}\n" for sentence in failed), sep="", end="")
        document["results"][what] = documents(results)
        if not failed:
            *ours, peer = (result.median("inside") for result in results)
            ratios = document["ratios"][what] = [own / peer for own in ours]
            reader, command, named = ratios
            print(f"  of the time of {PEER}: {READER} {reader:.2f}, ksearch -n {command:.2f}, ksearch {named:.2f}")
    return document


def programs(dump: Dump, words: str, of_drgn: str) -> list[Program]:
    """What is measured on one dump."""
    version = gdb_version()
    in_drgn = (str(drgn_python()), str(IN_DRGN), str(dump.vmcore), str(dump.vmlinux), "search", *of_drgn.split())
    return [
        Program(READER, version, gdb_command(dump, f"measure_search({words!r})")),
        Program(COMMAND, version, gdb_command(dump, f"measure_searching({'-n ' + words!r})")),
        Program(NAMED, version, gdb_command(dump, f"measure_searching({words!r})")),
        Program(PEER, DRGN, in_drgn),
    ]


def _by_zlib(dump: Dump, name: str) -> Dump:
    """A copy of the dump with the same pages, compressed by zlib."""
    CACHE.mkdir(parents=True, exist_ok=True)
    copy = CACHE / f"{name}-zlib.vmcore"
    if not copy.exists() or copy.stat().st_mtime < dump.vmcore.stat().st_mtime:
        command = ["makedumpfile", "-f", "-c", "-d", "0", str(dump.vmcore), str(copy)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return Dump(copy, dump.vmlinux, dump.functions)


def _distrust(results: list[Figures]) -> list[str]:
    """Why the searches cannot be compared, nothing where all have found the same places."""
    failed = [f"{result.name}: {result.failed}" for result in results if result.failed]
    found = {json.dumps(result.runs.get(name)) for result in results for name in ("places",) if not result.failed}
    return failed + (["the places differ"] if len(found) > 1 else [])


def _cell(name: str, value: float) -> str:
    if name == "together":
        return f"{value / 1e6:.0f} MB"
    return f"{value:.0f}" if name == "hits" else seconds(value)
