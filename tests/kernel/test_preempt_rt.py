"""What only PREEMPT_RT has: spinlocks that sleep, soft interrupts in threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_gdb_fixtures import Gdb, LabDump

KERNEL = "6.12rt"
TASK_RTLOCK_WAIT = 0x1000


@pytest.fixture
def waiter(lab_dump: Callable[[str], LabDump]) -> dict[str, Any]:
    """The task that waits for a spinlock, as the kernel has it."""
    (task,) = (t for t in lab_dump(f"{KERNEL}-rtlock").truth["tasks"] if t["comm"] == "lab-lock-wait")
    assert task["state"] == TASK_RTLOCK_WAIT
    return dict(task)


def test_who_waits_for_a_spinlock_does_not_seem_to_run(
    gdb_run: Gdb, lab_dump: Callable[[str], LabDump], waiter: dict[str, Any]
) -> None:
    vmcore = lab_dump(f"{KERNEL}-rtlock").vmcore
    listed, blocked = gdb_run("kps lab-lock* --json", "kbt --state D --json", vmcore=vmcore).succeeded().documents
    assert {task["comm"]: task["state"] for task in listed["tasks"]} == {"lab-lock-hold": "R", "lab-lock-wait": "D"}
    (trace,) = (trace for trace in blocked["tasks"] if trace["task"] == waiter["task"])
    functions = [frame["function"] for frame in trace["frames"]]
    assert (
        functions.index("rtlock_slowlock_locked") < functions.index("rt_spin_lock") < functions.index("lab_lock_wait")
    )
    assert trace["ended"] == "user"


def test_a_soft_interrupt_runs_in_its_thread(gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    dump = lab_dump(f"{KERNEL}-tasks")
    (trace,) = gdb_run("kbt -c 5 --json", vmcore=dump.vmcore).succeeded().json()["tasks"]
    functions = [frame["function"] for frame in trace["frames"]]
    assert trace["comm"] == "ktimers/5" and trace["ended"] == "kthread"
    at = [functions.index(name) for name in ("lab_spin_for_ever", "lab_softirq_handler", "run_timersd", "kthread")]
    assert at == sorted(at)
