"""Nothing runs and nothing is written: GDB's own commands for that get one clear sentence, and the session goes on."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_gdb_fixtures import Gdb, LabDump

from gdb_kdump.arch.x86_64.registers import REGISTERS
from gdb_kdump.dump.rsp import GdbThread, Stub, ThreadTable

RUNNING = (
    "continue", "c", "continue 3", "step", "next", "stepi", "si 2", "nexti", "finish", "until", "advance schedule",
    "jump schedule", "signal 0", "return", "run", "start", "starti", "load", "reverse-continue",
)  # fmt: skip
WRITING = (
    "set var jiffies = 1",
    "print panic_timeout = 1",
    "set {int}$sp = 1",
    "call schedule()",
    "print schedule()",
    "set var $rip = 0",
    "restore /bin/true binary 0xffff888000000000",
)


@pytest.fixture(scope="module")
def dump(lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump("6.1-reference")


def test_every_command_that_would_run_or_write_is_refused(gdb_run: Gdb, dump: LabDump) -> None:
    before = (dump.vmcore.stat().st_mtime_ns, dump.vmcore.stat().st_size)
    mark = "python gdb.write('@@\\n', 2)"
    look = ("print jiffies", "print $rip", "print panic_timeout")
    commands = [line for command in (*RUNNING, *WRITING) for line in (command, mark)]
    run = gdb_run(*look, mark, *commands, *look, "kbt --json", vmcore=dump.vmcore)
    assert "Traceback" not in run.output, run.output
    _, *said = run.stderr.split("@@\n")
    for command, text in zip((*RUNNING, *WRITING), said, strict=False):
        assert len(text.splitlines()) == 1, f"{command}: {text!r}"
        expected = "nothing in it can run" if command in RUNNING else "Writing to (memory|registers) is not allowed"
        assert re.search(expected, text), f"{command}: {text!r}"
    values = re.findall(r"^\$\d+ = (.*)$", run.stdout, re.MULTILINE)
    assert len(values) == 6 and values[:3] == values[3:], values
    assert run.json()["tasks"][0]["frames"]
    assert (dump.vmcore.stat().st_mtime_ns, dump.vmcore.stat().st_size) == before


def test_a_script_stops_at_the_first_refusal(gdb_run: Gdb, dump: LabDump) -> None:
    run = gdb_run("stepi", "echo reached\\n", vmcore=dump.vmcore, script=True)
    assert run.status == 1 and "reached" not in run.stdout


def test_programs_run_again_when_the_dump_is_closed(gdb_run: Gdb, dump: LabDump) -> None:
    show = ("show may-write-memory", "show may-write-registers")
    alive = ("file /bin/true", "starti", "set var $rax = 77", "print $rax", "kill")
    run = gdb_run("stepi", "disconnect", *show, *alive, vmcore=dump.vmcore)
    assert run.stdout.count("is on.") == 2, run.output
    assert "$1 = 77" in run.stdout, run.output


def test_hooks_of_the_user_stay(gdb_run: Gdb, dump: LabDump, tmp_path: Path) -> None:
    own = tmp_path / "own.gdb"
    own.write_text("define hook-stepi\necho mine\\n\nend\n")
    opened = (f"source {own}", f"source {Path(__file__).parents[2] / 'gdb_kdump' / 'init.py'}")
    run = gdb_run(*opened, f"target kdump {dump.vmcore}", "stepi", "kinfo --json", plugin=False)
    assert "mine" in run.stdout
    assert run.json()["release"] == dump.truth["kernel"]


class _Nothing:
    threads = ThreadTable([GdbThread(1, "one", 0, {})], 1)
    registers = REGISTERS

    def read_memory(self, addr: int, size: int) -> bytes:
        raise AssertionError("a packet that writes or runs must not read")


@pytest.mark.parametrize(
    "body",
    [
        b"M1000,1:00", b"X1000,1:\0", b"G00", b"P10=0000000000000000", b"c", b"C05", b"s", b"S05", b"c1000", b"vCont;c",
        b"vCont;s:1", b"vCont?", b"vRun;2f62696e2f7368", b"vAttach;1", b"vFile:open:2f6574632f706173737764,0,0",
        b"vFile:setfs:0", b"vFlashErase:0,1", b"qRcmd,6964", b"Z0,1000,1", b"z0,1000,1", b"Z1,1000,1", b"Z2,1000,8",
        b"QEnvironmentHexEncoded:41", b"QSetWorkingDir:2f", b"QPassSignals:e", b"QTStart", b"qCRC:1000,10",
        b"QStartupWithShell:1", b"QCatchSyscalls:1", b"R00", b"r", b"bc", b"bs", b"i", b"I", b"!", b"A4,0,2f",
        b"qSearch:memory:0;10;61", b"qXfer:exec-file:read::0,100", b"qXfer:auxv:read::0,100", b"qFileTransfer",
        b"qGetTLSAddr:1,0,0", b"QAgent:1", b"Qbtrace:bts", b"vKill",
    ],
)  # fmt: skip
def test_packets_are_refused_or_unknown(body: bytes) -> None:
    stub = Stub(_Nothing())
    answer = stub.feed(b"$%b#%02x" % (body, sum(body) & 0xFF))
    if body == b"vKill":
        assert stub.closed
        return
    assert answer in (b"+$#00", b"+$E01#a6", b"+$E00#a5"), answer
