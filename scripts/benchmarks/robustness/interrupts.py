"""Ctrl-C: during each long command, at several moments; how long until the prompt, and is the next answer right?"""

import json
import tempfile
import time
from pathlib import Path

from benchmarks.robustness.interactive import Gdb
from benchmarks.robustness.rows import SMALL, Row
from benchmarks.tools import Dump

COMMANDS = (
    "skbcheck --all", "skbcheck --all --json", "kbt -a", "kbt -a --json", "kbt -a --group", "kslab -l",
    "kslab -l --json", "ksock", "ksock --json", "klog", "klog --json", "kmod", "ktriage", "kps", "kps --json",
    "ksearch 0", "ksearch 1 --json", "klock", "knet", "knet --hooks --json",
    "skbwalk {sock}", "skbwalk {sock} --json", "skbwalk {sock} --pcap {file}", "skbcheck --sock {sock}",
    "kstruct page -c 100000 vmemmap_base", "kstruct page -c 100000 vmemmap_base --json",
    "thread apply all bt", "info threads", "target kdump {vmcore}",
)  # fmt: skip
FIRST_USES = {
    SMALL: ("skbcheck --all",),
    "full": ("skbcheck --all", "skbwalk {sock}", "kbt -a", "kslab -l", "ksock", "ktriage", "thread apply all bt"),
}
MOMENTS = {SMALL: (0.3,), "full": (0.02, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 4.0)}
BOUND_SECONDS = 1.0
_SLACK_SECONDS = 2.0  # for a machine that has other work too; the figure itself is told
_PROBE = "kps 1 --json"


def measure(dump: Dump, size: str) -> list[Row]:
    """A row for each command: how often it was stopped, how often it was faster, and the longest wait."""
    rows = []
    opening = f"target kdump {dump.vmcore}"
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        file = Path(folder, "packets.pcapng")
        with Gdb(opening) as gdb:
            gdb.ask("echo")
            expected, sock = gdb.ask(_PROBE), _fullest_sock(gdb)
            for template in COMMANDS:
                row = Row("interrupts", template)
                command = template.format(vmcore=dump.vmcore, sock=sock, file=file)
                for moment in MOMENTS[size]:
                    file.unlink(missing_ok=True)
                    _one(gdb, command, moment, row, expected, opening)
                rows.append(row)
        for template in FIRST_USES[size]:
            row = Row("interrupts", f"{template}, first use")
            for moment in MOMENTS[size]:
                with Gdb(opening) as gdb:
                    gdb.ask("echo")
                    _one(gdb, template.format(sock=sock), moment, row, expected, opening)
            rows.append(row)
    return rows


def _fullest_sock(gdb: Gdb) -> str:
    """The address of the socket with the most sk_buffs in its queues."""
    socks = json.loads(gdb.ask("ksock --json"))["socks"]
    held: dict[str, int] = {sock["sock"]: sum(queue["qlen"] for queue in sock["queues"].values()) for sock in socks}
    return max(held, key=held.__getitem__)


def _one(gdb: Gdb, command: str, moment: float, row: Row, expected: str, opening: str) -> None:
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
    after = gdb.ask(_PROBE).removeprefix("Quit\n")  # of Ctrl-C at the prompt
    if after != expected and "no dump is open" in after and command == opening:
        gdb.ask(opening)
        after = gdb.ask(_PROBE)
    if after != expected:
        failure = f"{command} after {moment} s: the next answer is wrong: {after[-300:]!r}"
    row.count("stopped" if is_stopped else "had ended", failure)
