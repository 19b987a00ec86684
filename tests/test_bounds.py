"""How far walks go: to a limit that can be set, and to Ctrl-C, with what they have by then, and no further harm."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_gdb_fixtures import Gdb, LabDump
from pytest_gdb_fixtures.process import GDB, INIT

MARK = "@@end@@"


@pytest.fixture
def dump(lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump("6.1-healthy")


def longest_queue(dump: LabDump) -> tuple[str, int]:
    queues = [(queue["members"], sock["sock"]) for sock in dump.truth["socks"] for queue in sock["queues"]
              if queue["queue"] == "receive"]  # fmt: skip
    count, sock = max(queues)
    return sock, count


def test_the_setting_is_explained_and_checked(gdb_run: Gdb) -> None:
    run = gdb_run(
        "help set kdump", "help set kdump max-elements", "show kdump max-elements", "set kdump max-elements 0",
        "set kdump max-elements 12", "show kdump max-elements",
        "python print('@', gdb.parameter('kdump max-elements'))",
    )  # fmt: skip
    assert "set kdump max-elements -- Set the most elements" in run.stdout
    assert "Walks take at most 10000000 elements" in run.stdout and "at most 12 elements" in run.stdout
    assert "@ 12\n" in run.stdout
    assert run.stderr.strip() == "kdump max-elements must be at least 1, not 0"


def test_a_walk_says_that_it_came_to_the_limit_and_how_far_it_was(gdb_run: Gdb, dump: LabDump) -> None:
    sock, count = longest_queue(dump)
    assert count > 5
    walk = f"skbwalk {sock} --queue receive --json"
    run = gdb_run(
        walk, "set kdump max-elements 5", walk, f"skbwalk {sock} --queue receive", "set kdump max-elements 100000",
        walk, vmcore=dump.vmcore,
    ).succeeded()  # fmt: skip
    whole, part, again = (document["queues"][0] for document in run.documents)
    assert whole["complete"] and whole["walked"] == count and whole == again
    assert not part["complete"] and part["walked"] == 5
    assert part["skbs"] == whole["skbs"][:5] and part["findings"] == []
    last = whole["skbs"][4]["skb"]
    assert part["stopped"] == f"the queue: stopped after 5 elements (set kdump max-elements) (last good: {last})"
    assert part["stopped"] in run.stdout.replace(f'"{part["stopped"]}"', "")


def test_every_listing_obeys_the_limit_and_is_whole_again_without_it(gdb_run: Gdb, dump: LabDump) -> None:
    commands = {
        "kps --json": ("tasks", "problems"),
        "klog --json": ("records", "cut_short"),
        "ksock --json": ("socks", "problems"),
        "kslab -l --json": ("caches", "missing"),
        "kbt -a --json": ("tasks", "problems"),
    }
    limits = ("set kdump max-elements 4", "set kdump max-elements 10000000")
    run = gdb_run(*commands, limits[0], *commands, limits[1], *commands, vmcore=dump.vmcore).succeeded()
    whole, part, again = (run.documents[at : at + len(commands)] for at in range(0, 3 * len(commands), len(commands)))
    assert whole == again
    for command, full, cut in zip(commands, whole, part, strict=True):
        entries, why = commands[command]
        assert len(cut[entries]) < len(full[entries]), command
        assert not full[why] and "set kdump max-elements" in str(cut[why]), command


class Prompt:
    """A gdb at its prompt, to be interrupted."""

    def __init__(self, *commands: str) -> None:
        words = [word for command in (f"source {INIT}", "set height 0", "set width 0", *commands)
                 for word in ("-ex", command)]  # fmt: skip
        self._said = bytearray()
        self.process = subprocess.Popen(
            [GDB, "-nx", "-q", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=os.environ | {"TERM": "dumb", "DEBUGINFOD_URLS": ""},
        )  # fmt: skip

    def send(self, command: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{command}\necho {MARK}\\n\n".encode())
        self.process.stdin.flush()

    def answer(self, seconds: float = 120) -> str:
        assert self.process.stdout
        deadline, end = time.monotonic() + seconds, f"{MARK}\n".encode()
        while end not in self._said:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            data = os.read(self.process.stdout.fileno(), 1 << 16) if ready else b""
            assert data, f"no answer: {self._said[-2000:]!r}"
            self._said += data
        answer, _, rest = self._said.partition(end)
        self._said = bytearray(rest)
        return answer.decode().replace("(gdb) ", "")

    def ask(self, command: str) -> str:
        self.send(command)
        return self.answer()


@pytest.fixture
def prompt(dump: LabDump) -> Iterator[Prompt]:
    gdb = Prompt(f"target kdump {dump.vmcore}")
    yield gdb
    gdb.process.kill()
    gdb.process.wait()


@pytest.mark.parametrize("command", ["skbcheck --all", "kbt -a"])
def test_ctrl_c_shows_what_there_is_and_leaves_no_trace(prompt: Prompt, command: str) -> None:
    assert "KERNEL" in prompt.ask("kinfo")
    whole = None
    for delay in (0.05, 0.15, 0.3, 0.6):
        prompt.send(command)
        time.sleep(delay)
        pressed = time.monotonic()
        prompt.process.send_signal(signal.SIGINT)
        said = prompt.answer()
        waited = time.monotonic() - pressed
        assert "Traceback" not in said, said
        if "stopped by Ctrl-C" not in said:
            continue  # it was faster, or was looking a type up: Quit
        assert waited < 5, said  # one second, and what a busy machine adds
        assert re.search(r": stopped by Ctrl-C (after \d+|before it began)", said), said
        assert said.rstrip().endswith(f"{command.split()[0]}: stopped by Ctrl-C: what it shows is not all"), said
        whole = whole or prompt.ask(command).removeprefix("Quit\n")
        assert "Ctrl-C" not in whole
        assert prompt.ask(command).removeprefix("Quit\n") == whole
        return
    pytest.fail(f"{command} could not be interrupted: {said[-500:]}")


def test_a_script_stops_at_ctrl_c(prompt: Prompt, tmp_path: Path) -> None:
    assert "KERNEL" in prompt.ask("kinfo")
    script = tmp_path / "script.gdb"
    script.write_text("skbcheck --all\nskbcheck --all\nskbcheck --all\necho @@went on@@\\n\n")
    prompt.send(f"source {script}")
    time.sleep(0.3)
    prompt.process.send_signal(signal.SIGINT)
    said = prompt.answer()
    assert "@@went on@@" not in said, said
