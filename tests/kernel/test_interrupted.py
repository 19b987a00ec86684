"""Whether something may have been stopped in the middle, on real crashes: else a lock that is held excuses nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from patched_dump import PatchedDump
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump, dump_names

ASK = (
    "python from gdb_kdump.session import current",
    "python from gdb_kdump.kernel.stack.interrupted import Interruption",
    "python print('midway:', current().once(Interruption).possible())",
)
HELD = (1).to_bytes(4, "little")


def could_be(gdb_run: Gdb, vmcore: Path) -> bool:
    said = gdb_run(*ASK, vmcore=vmcore).succeeded().stdout
    return bool(re.search(r"^midway: (True|False)$", said, re.MULTILINE)[1] == "True")  # type: ignore[index]


@pytest.mark.parametrize("name", dump_names("softlockup"))
def test_who_was_interrupted_may_have_been(gdb_run: Gdb, lab_dump: Callable[[str], LabDump], name: str) -> None:
    assert could_be(gdb_run, lab_dump(name).vmcore)


def is_plain(trace: dict[str, Any]) -> bool:
    """Whether no interrupt is in the way between a task and where it ended."""
    return not {frame["kind"] for frame in trace["frames"]} & {"irq", "nmi"}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("scenario", ["reference", "healthy"])
def test_nobody_was_where_the_other_cpus_idled(
    gdb_run: Gdb, lab_dump: Callable[[str], LabDump], kernel: str, scenario: str
) -> None:
    dump = lab_dump(f"{kernel}-{scenario}")
    run = gdb_run("kbt -c 0-1 --json", "kbt -a --json", vmcore=dump.vmcore).succeeded()
    running, everybody = (document["tasks"] for document in run.documents)
    others = [trace for trace in running if trace["pid"] != dump.truth["panic_task"]["pid"]]
    assert len(running) == 2 and len(others) == 1
    if all(trace["pid"] == 0 and is_plain(trace) for trace in others) and all(map(is_plain, everybody)):
        assert not could_be(gdb_run, dump.vmcore)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_held_lock_excuses_only_who_could_be_in_the_middle(
    gdb_run: Gdb, lab_dump: Callable[[str], LabDump], tmp_path: Path, kernel: str
) -> None:
    dump = lab_dump(f"{kernel}-healthy")
    sock = next(sock["sock"] for sock in dump.truth["socks"] if sock["label"] == "udp0.rx")
    # With PREEMPT_RT a lock is a mutex with an owner, behind another lock that guards its waiters.
    members = ("qlen", "lock.lock.owner" if kernel.endswith("rt") else "lock")
    words = [f"print/x (unsigned long)&((struct sock *){sock})->sk_receive_queue.{member}" for member in members]
    printed = gdb_run(*words, vmcore=dump.vmcore).succeeded().stdout
    qlen, lock = (int(at, 16) for at in re.findall(r"^\$\d+ = (0x[0-9a-f]+)", printed, re.MULTILINE))
    patched = PatchedDump(dump.vmcore, tmp_path / "patched.vmcore")
    patched.write(lock, HELD)
    patched.write(qlen, (int.from_bytes(patched.read(qlen, 4), "little") + 1).to_bytes(4, "little"))
    checked = gdb_run(f"skbcheck --sock {sock} --json", vmcore=patched.path).succeeded().json()
    (finding,) = (f for f in checked["findings"] if f["rule"] == "queue.qlen")
    assert finding["severity"] == ("suspect" if could_be(gdb_run, dump.vmcore) else "corrupt")
