"""How far walks go: to a limit that can be set, and to Ctrl-C, with what they have by then, and no further harm."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fixtures.load import Loaded, write_load
from pytest_gdb_fixtures import Gdb, LabDump
from pytest_gdb_fixtures.process import GDB, INIT

MARK = "@@end@@"
BEFORE_A_HOLE = "(long)&__init_begin - 32"  # what was only needed for booting is no longer mapped


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


def test_an_array_of_objects_ends_at_the_limit_and_at_a_hole(gdb_run: Gdb, dump: LabDump) -> None:
    ask = "kstruct list_head -c {} {}"
    run = gdb_run(
        ask.format(4, "&_stext --json"), "set kdump max-elements 3", ask.format(4, "&_stext --json"),
        ask.format(4, "&_stext"), "set kdump max-elements 10000000", ask.format(10**6, BEFORE_A_HOLE),
        ask.format(10**6, f"{BEFORE_A_HOLE} --json"), vmcore=dump.vmcore,
    ).succeeded()  # fmt: skip
    whole, (*part, cut), (*before_hole, hole) = run.documents
    assert len(whole) == 4 and part == whole[:3]
    assert cut["address"] == whole[3]["address"] and cut["size"] == 16
    stopped = f"the objects: stopped after 3 elements (set kdump max-elements) (last good: {part[-1]['address']})"
    assert cut["value"] == {"stopped": stopped}
    assert f"there may be more: {stopped}" in run.stdout
    assert 0 < len(before_hole) < 10**6 and hole["value"]["unreadable"] in ("UNMAPPED", "FILTERED")
    assert int(hole["address"], 16) == int(before_hole[-1]["address"], 16) + hole["size"]
    last = f"(last good: {before_hole[-1]['address']})"
    assert re.search(rf"there may be more: the objects: cannot read {hole['address']}: .*{re.escape(last)}", run.stdout)


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
        if "stopped by Ctrl-C" not in said or "before it had anything" in said:
            continue  # it was faster, or was looking a type up
        assert waited < 5, said  # one second, and what a busy machine adds
        assert re.search(r": stopped by Ctrl-C (after \d+|before it began)", said), said
        assert said.rstrip().endswith(f"{command.split()[0]}: stopped by Ctrl-C: what it shows is not all"), said
        whole = whole or prompt.ask(command).removeprefix("Quit\n")
        assert "Ctrl-C" not in whole
        assert prompt.ask(command).removeprefix("Quit\n") == whole
        return
    pytest.fail(f"{command} could not be interrupted: {said[-500:]}")


def interrupted(prompt: Prompt, command: str, delays: Sequence[float]) -> str:
    """What a command says that was stopped in a walk, at the first of the delays (seconds) that strikes one."""
    for delay in delays:
        prompt.send(command)
        time.sleep(delay)
        pressed = time.monotonic()
        prompt.process.send_signal(signal.SIGINT)
        said = prompt.answer()
        assert time.monotonic() - pressed < 5, said[-500:]  # one second, and what a busy machine adds
        assert "Traceback" not in said, said[-2000:]
        if "stopped by Ctrl-C (last good: 0x" in said or "Ctrl-C after" in said:
            return said
    pytest.fail(f"{command} could not be interrupted: {said[-500:]}")


def test_ctrl_c_ends_an_array_of_objects(prompt: Prompt) -> None:
    prompt.ask("echo")
    whole = prompt.ask("kstruct list_head -c 2 &_stext")
    said = interrupted(prompt, "kstruct list_head -c 10000000 &_stext", (0.5, 1, 2))
    assert said.startswith(whole)
    last = re.findall(r"^struct list_head @ (0x[0-9a-f]{16}) \{", said, re.MULTILINE)[-1]
    reason = f"there may be more: the objects: stopped by Ctrl-C (last good: {last})"
    assert said.splitlines()[-2:] == [reason, "kstruct: stopped by Ctrl-C: what it shows is not all"]
    assert prompt.ask("kstruct list_head -c 2 &_stext").removeprefix("Quit\n") == whole


@pytest.fixture(scope="module")
def long_queue(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return write_load(tmp_path_factory.mktemp("queue"), skbs=300_000)


def test_ctrl_c_ends_a_long_queue_and_the_output_of_it(long_queue: Loaded) -> None:
    walk = "skbwalk &socket_of_all --queue receive"
    gdb = Prompt(f"target kdump {long_queue.vmcore}")
    try:
        gdb.ask("echo")
        said = interrupted(gdb, walk, (0.1, 0.2, 0.3, 0.4, 0.6))
        walked = re.findall(r"walked (\d+), stopped by Ctrl-C \(last good: 0x[0-9a-f]{16}\)", said)[0]
        skbs = re.findall(r"^ *\d+  (0x[0-9a-f]{16}) ", said, re.MULTILINE)
        assert 0 < len(skbs) <= int(walked) < 300_000
        document = json.loads(interrupted(gdb, f"{walk} --json", (0.1, 0.2, 0.3, 0.4, 0.6)).splitlines()[0])
        queue = document["queues"][0]
        assert document["interrupted"] and not queue["complete"] and "stopped by Ctrl-C" in queue["stopped"]
        assert [skb["skb"] for skb in queue["skbs"]][: len(skbs)] == skbs[: len(queue["skbs"])]
        whole = json.loads(gdb.ask(f"{walk} --json").removeprefix("Quit\n"))["queues"][0]
        assert whole["complete"] and whole["walked"] == len(whole["skbs"]) == 300_000
        assert [skb["skb"] for skb in whole["skbs"]][: len(skbs)] == skbs
    finally:
        gdb.process.kill()
        gdb.process.wait()


def test_ctrl_c_leaves_a_capture_of_whole_packets(in_gdb: Callable[..., Any], dump: LabDump, tmp_path: Path) -> None:
    file = tmp_path / "part.pcapng"
    skb = next(skb["skb"] for skb in dump.truth["skbs"])
    packets, stopped = in_gdb(half_a_capture, skb, str(file), vmcore=dump.vmcore)
    assert 0 < packets < 10**7 and stopped == f"the packets: stopped by Ctrl-C after {packets} (last good: {skb})"
    kinds = blocks_of(file.read_bytes())
    assert kinds.count(6) == packets and kinds[-1] == kinds[0] == 0x0A0D0D0A
    assert f"INCOMPLETE: {stopped}".encode() in file.read_bytes()[-400:]


def half_a_capture(skb: str, file: str) -> list[Any]:
    import os
    import signal
    import threading

    from gdb_kdump import session, walks
    from gdb_kdump.commands.export.pcap import write_pcap
    from gdb_kdump.records.queue import Queue

    queue = Queue("receive", 0, 10**7, (int(skb, 16),) * 10**7)
    threading.Timer(2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with walks.StoppableCommand():
        written = write_pcap(session.current(), file, [queue])
    return [written.packets, written.stopped]


def blocks_of(data: bytes) -> list[int]:
    """The types of the blocks of a pcapng file, which must all be whole."""
    kinds, at = [], 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert struct.unpack_from("<I", data, at + length - 4) == (length,)
        kinds.append(kind)
        at += length
    return kinds


def test_a_script_stops_at_ctrl_c(prompt: Prompt, tmp_path: Path) -> None:
    assert "KERNEL" in prompt.ask("kinfo")
    script = tmp_path / "script.gdb"
    script.write_text("skbcheck --all\nskbcheck --all\nskbcheck --all\necho @@went on@@\\n\n")
    prompt.send(f"source {script}")
    time.sleep(0.3)
    prompt.process.send_signal(signal.SIGINT)
    said = prompt.answer()
    assert "@@went on@@" not in said, said
