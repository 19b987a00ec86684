"""Front ends and plugins: GDB/MI, DAP where GDB has it, and what GEF and gdb-dashboard do to the GDB that has them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
from pytest_gdb_fixtures import Gdb, LabDump
from pytest_gdb_fixtures.lab import folder
from pytest_gdb_fixtures.process import GDB, INIT


@pytest.fixture
def dump(lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump("6.1-reference")


def environment() -> dict[str, str]:
    return {**os.environ, "DEBUGINFOD_URLS": "", "KDUMP_VMLINUX_PATH": str(folder())}


def console(records: str) -> str:
    """What GDB/MI's console stream says, of all records."""
    return "".join(json.loads(line[1:]) for line in records.splitlines() if line.startswith("~"))


def test_mi(dump: LabDump) -> None:
    requests = [
        f'1-interpreter-exec console "source {INIT}"',
        f'2-interpreter-exec console "target kdump {dump.vmcore}"',
        '3-interpreter-exec console "kinfo --json"',
        "4-stack-list-frames 0 2",
        "5-thread-info",
        '6-interpreter-exec console "kbt 99999"',
        "7-data-evaluate-expression $task(1)->pid",
        "8-gdb-exit",
    ]
    command = [GDB, "-nx", "-q", "--interpreter=mi3"]
    run = subprocess.run(
        command, input="\n".join(requests) + "\n", capture_output=True, text=True, timeout=120, env=environment(),
        check=False,
    )  # fmt: skip
    results = dict(re.findall(r"^(\d)\^(.*)$", run.stdout, re.MULTILINE))
    assert [results[number].partition(",")[0] for number in "1234567"] == [*["done"] * 5, "error", "done"], run.stdout
    info = next(json.loads(line) for line in console(run.stdout).splitlines() if line.startswith("{"))
    assert info["panic"]["pid"] == dump.truth["panic_task"]["pid"]
    assert 'func="_compound_head"' in results["4"] and results["4"].count("frame={") == 3
    assert results["5"].count("target-id=") == len(re.findall(r"\bThread \d+", results["5"])) > 40
    assert "no task has PID 99999" in results["6"] and 'value="1"' in results["7"]


class Dap:
    """A client of the Debug Adapter Protocol: requests, and their responses."""

    def __init__(self, to: IO[bytes], source: IO[bytes]) -> None:
        self._to, self._from, self._sequence = to, source, 0

    def ask(self, command: str, **arguments: Any) -> Any:
        """The body of the response to a request, which must have succeeded."""
        self._sequence += 1
        request = {"seq": self._sequence, "type": "request", "command": command, "arguments": arguments}
        text = json.dumps(request).encode()
        self._to.write(b"Content-Length: %d\r\n\r\n%b" % (len(text), text))
        self._to.flush()
        while True:
            message = self._read()
            if message.get("request_seq") == self._sequence:
                assert message["success"], message
                return message.get("body")

    def _read(self) -> Any:
        size = 0
        while line := self._from.readline().strip():
            size = int(line.partition(b":")[2])
        assert size, "GDB has ended"
        return json.loads(self._from.read(size))


HAS_DAP = not subprocess.run([GDB, "-nx", "-batch", "-ex", "python import gdb.dap"], capture_output=True).stderr

if HAS_DAP:  # GDB 14 and later: `GDB=$(scripts/other-gdb sid)`

    def test_dap(dump: LabDump) -> None:
        command = [GDB, "-nx", "-q", "--interpreter=dap", "-iex", f"source {INIT}"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as process:
            assert process.stdin and process.stdout
            client = Dap(process.stdin, process.stdout)
            client.ask("initialize", clientID="test")
            client.ask("evaluate", expression=f"target kdump {dump.vmcore}", context="repl")
            info = json.loads(client.ask("evaluate", expression="kinfo --json", context="repl")["result"])
            trace = client.ask("evaluate", expression="kbt", context="repl")["result"]
            threads = client.ask("threads")["threads"]
            client.ask("disconnect")
        assert info["panic"]["pid"] == dump.truth["panic_task"]["pid"]
        assert "skb_release_data" in trace and "ended: user mode" in trace
        assert {"load", "init", "kthreadd"} <= {thread["name"] for thread in threads}


# GEF: settings, handlers of every event that look around, and a hook of `target remote` that fails while it has another
# thread selected.  gdb-dashboard: a prompt, a handler of stops that runs commands, and commands of its own.
LIKE_GEF = """
import gdb
for setting in ("confirm off", "pagination off", "print elements 0", "history save off", "print pretty on",
                "output-radix 0x10", "disassembly-flavor intel", "follow-fork-mode child", "python print-stack full"):
    gdb.execute(f"set {setting}")
def look(event):
    gdb.execute("info registers", to_string=True)
    for thread in gdb.selected_inferior().threads()[:3]:
        thread.switch()
        gdb.newest_frame()
for name in ("stop", "cont", "new_objfile", "exited", "memory_changed", "register_changed", "clear_objfiles"):
    getattr(gdb.events, name).connect(look)
def posthook():
    gdb.selected_inferior().threads()[5].switch()
    raise OSError("Failed to create a proper environment")
gdb.execute("define target hookpost-remote\\npython posthook()\\nend")
"""
LIKE_DASHBOARD = """
import gdb
gdb.prompt_hook = lambda current: ">>> "
gdb.events.stop.connect(lambda event: gdb.execute("bt 5", to_string=True) + gdb.execute("info locals", to_string=True))
class Dashboard(gdb.Command):
    def __init__(self):
        super().__init__("dashboard", gdb.COMMAND_USER, gdb.COMPLETE_NONE, True)
Dashboard()
gdb.execute("set language asm")
"""


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("plugin", [LIKE_GEF, LIKE_DASHBOARD], ids=["like GEF", "like gdb-dashboard"])
def test_other_plugins(gdb_run: Gdb, tmp_path: Path, dump: LabDump, plugin: str, order: str) -> None:
    other = tmp_path / "other.py"
    other.write_text(plugin)
    sourced = [f"source {other}", f"source {INIT}"]
    look = ("python print('@', gdb.selected_thread().ptid[1])", "bt 1", "kbt --json", "skbcheck --all --json")
    run = gdb_run(*(sourced if order == "before" else reversed(sourced)), f"target kdump {dump.vmcore}", *look, "kill",
                  f"target kdump {dump.vmcore}", *look, plugin=False)  # fmt: skip
    pid = dump.truth["panic_task"]["pid"]
    assert run.stdout.count(f"@ {pid}\n") == 2 and run.stdout.count("#0  _compound_head (") == 2, run.output
    assert run.documents[:2] == run.documents[2:] and run.documents[0]["tasks"][0]["pid"] == pid
    failed = "warning: the dump is open, but what a plugin or a hook of `target remote` does after it has failed"
    assert run.stderr.count(failed) == (2 if plugin is LIKE_GEF else 0), run.stderr
