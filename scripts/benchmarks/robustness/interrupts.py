"""Ctrl-C: during each long command, at several moments; how long until the prompt, and is the next answer right?"""

import time

from benchmarks.robustness.interactive import Gdb
from benchmarks.robustness.rows import SMALL, Row
from benchmarks.tools import Dump

COMMANDS = (
    "skbcheck --all", "skbcheck --all --json", "kbt -a", "kbt -a --group", "kslab -l", "ksock", "klog", "ktriage",
    "kps", "thread apply all bt", "info threads", "target kdump {vmcore}",
)  # fmt: skip
MOMENTS = {SMALL: (0.3,), "full": (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)}
BOUND_SECONDS = 1.0
_SLACK_SECONDS = 2.0  # for a machine that has other work too; the figure itself is told


def measure(dump: Dump, size: str) -> list[Row]:
    """A row for each command: how often it was stopped, how often it was faster, and the longest wait."""
    rows = []
    with Gdb(f"target kdump {dump.vmcore}") as gdb:
        gdb.ask("echo")
        probe = "kps 1 --json"
        expected = gdb.ask(probe)
        for template in COMMANDS:
            command = template.format(vmcore=dump.vmcore)
            row = Row("interrupts", template)
            for moment in MOMENTS[size]:
                _one(gdb, command, moment, row, probe, expected, f"target kdump {dump.vmcore}")
            rows.append(row)
    return rows


def _one(gdb: Gdb, command: str, moment: float, row: Row, probe: str, expected: str, reopen: str) -> None:
    gdb.send(command)
    time.sleep(moment)
    started = time.monotonic()
    gdb.interrupt()
    try:
        said = gdb.answer()
    except (TimeoutError, EOFError) as error:
        row.count("no prompt", f"{command} after {moment} s: {type(error).__name__}: {str(error)[-300:]}")
        return
    seconds = time.monotonic() - started
    is_stopped = "stopped by Ctrl-C" in said or "Quit" in said or "KeyboardInterrupt" in said
    failure = ""
    if is_stopped and seconds > BOUND_SECONDS + _SLACK_SECONDS:
        failure = f"{command} after {moment} s: {seconds:.1f} s until the prompt"
    if "Traceback" in said or "Python Exception" in said:
        failure = f"{command} after {moment} s: {said[-600:]!r}"
    if is_stopped:
        row.most("longest wait s", seconds)
    after = gdb.ask(probe).removeprefix("Quit\n")  # of Ctrl-C at the prompt
    if after != expected and "no dump is open" in after and command == reopen:
        gdb.ask(reopen)
        after = gdb.ask(probe)
    if after != expected:
        failure = f"{command} after {moment} s: the next answer is wrong: {after[-300:]!r}"
    row.count("stopped" if is_stopped else "had ended", failure)
