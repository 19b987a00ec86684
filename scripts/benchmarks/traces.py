"""Stack traces of all tasks: kbt -a and thread apply all bt beside drgn and crash, each in a process of its own."""

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

DUMPS = ["6.1-tasks", "6.12-tasks"]
COMMANDS = ("kbt -a", "thread apply all bt")
# crash 8.0.2 misses most tasks of newer kernels, so the traces are counted.
CRASH_BT = """!date +"started %s.%N" >> $BENCH_RESULT
foreach bt | grep -c ^PID | sed "s/^/traces /" >> $BENCH_RESULT
!date +"ended %s.%N" >> $BENCH_RESULT
quit
"""


def measure(dump: Dump, name: str, repetitions: int) -> dict[str, Any]:
    """Measures one dump and prints a table."""
    results = run_all(programs(dump, name), repetitions)
    print(f"\ntraces {name}: every task's backtrace, printed to nowhere, median of {repetitions} runs")
    print(f"  {'':44} {'inside':>10} {'process':>10} {'traces':>10}")
    for result in results:
        print(row(result, ("inside", "whole", "traces"), _cell))
    _show_ratios(results)
    return {"dump": name, "results": documents(results)}


def programs(dump: Dump, name: str) -> list[Program]:
    """What is measured on one dump."""
    found = [
        Program(f"gdb-kdump: {command}", gdb_version(), gdb_command(dump, f"measure_traces({command!r})"))
        for command in COMMANDS
    ]
    in_drgn = (str(drgn_python()), str(IN_DRGN), str(dump.vmcore), str(dump.vmlinux), "traces")
    found.append(Program("drgn: stack_trace", DRGN, in_drgn))
    note = "" if name.startswith(("5.10-", "6.1-")) else "crash 8.0.2 cannot open this kernel"
    command = ("crash", "-s", str(dump.vmlinux), str(dump.vmcore))
    return [*found, Program("crash: foreach bt", crash_version(), command, CRASH_BT, note)]


def _cell(name: str, value: float) -> str:
    return f"{value:.0f}" if name == "traces" else seconds(value)


def _show_ratios(results: list[Figures]) -> None:
    *own, drgn, _ = results
    for result in own:
        if not result.failed and not drgn.failed:
            print(f"  {result.name} takes {result.median('inside') / drgn.median('inside'):.2f} of drgn's time")
