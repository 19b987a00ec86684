"""klock and kps -m: who waits for which lock, against what the lab's tasks said of themselves; and damage."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from patched_dump import PatchedDump
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump


@pytest.fixture(params=KERNELS)
def dump(request: pytest.FixtureRequest, lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump(f"{request.param}-locks")


def name(lock: dict[str, Any]) -> str:
    """Its symbol, without the module, and without where in an rwsem the rt_mutex of PREEMPT_RT stands."""
    return str(lock["name"]).partition(" ")[0].partition("+")[0]


def is_rt(dump: LabDump) -> bool:
    return dump.name.partition("-")[0].endswith("rt")


def test_waiters_and_owners_are_those_of_the_guest(gdb_run: Gdb, dump: LabDump) -> None:
    run = gdb_run("klock --json", "print/x (unsigned long)&rtnl_mutex", "klock", vmcore=dump.vmcore).succeeded()
    document = run.json()
    assert document["problems"] == []
    locks = {name(lock): lock for lock in document["locks"]}
    rtnl = re.search(r"= 0x([0-9a-f]+)", run.stdout)
    assert rtnl and int(locks["rtnl_mutex"]["lock"], 16) == int(rtnl[1], 16)
    assert document["locks"][0]["name"] == "rtnl_mutex"
    users = dump.truth["lock_users"]
    waiting: dict[str, list[int]] = {user["lock"]: [] for user in users}
    for user in users:
        waiting[user["lock"]] += [] if user["holds"] else [user["pid"]]
    assert len(waiting["rtnl_mutex"]) == 5 and len(users) == 16
    for user in users:
        lock = locks[user["lock"]]
        inside = int(lock["lock"], 16) - int(user["address"], 16)
        assert user["lock"] == "rtnl_mutex" or inside == (8 if is_rt(dump) and user["lock"] == "lab_rwsem" else 0)
        pids = [waiter["pid"] for waiter in lock["waiters"]]
        # The kernel's own threads may wait for rtnl_mutex, too.
        assert [pid for pid in pids if pid in waiting[user["lock"]]] == waiting[user["lock"]], user
        assert user["lock"] == "rtnl_mutex" or len(pids) == len(waiting[user["lock"]])
        if user["holds"]:
            assert (lock["held"], lock["owner"]["pid"]) == ("owner", user["pid"])
    assert (locks["lab_semaphore"]["held"], locks["lab_semaphore"]["owner"]) == ("unknown", None)
    kinds = {name(lock): lock["kind"] for lock in document["locks"]}
    # With PREEMPT_RT there is an rt_mutex within each, but for the semaphore.
    mutex, rwsem = ("rt_mutex", "rt_mutex") if is_rt(dump) else ("mutex", "rwsem")
    expected = {"lab_left": mutex, "rtnl_mutex": mutex, "lab_rwsem": rwsem, "lab_semaphore": "semaphore"}
    assert kinds | expected == kinds
    lines = run.stdout.splitlines()
    assert "DEADLOCK of 2 tasks:" in lines
    title = re.compile(r"rtnl_mutex \((rt_)?mutex 0x\w{16}\): held by PID \d+ lab-rtnl-hold \(S in sleep_for_ever\), ")
    assert any(title.match(line) for line in lines)


def test_the_deadlock_the_chain_and_where_tasks_wait(gdb_run: Gdb, dump: LabDump) -> None:
    document = gdb_run("klock --json", vmcore=dump.vmcore).succeeded().json()
    pids = {task["comm"]: task["pid"] for task in dump.truth["tasks"]}
    (cycle,) = document["deadlocks"]
    waits = {step["pid"]: name(step["waits_for"]) for step in cycle}
    assert waits == {pids["lab-abba-0"]: "lab_right", pids["lab-abba-1"]: "lab_left"}
    chained = next(lock for lock in document["locks"] if name(lock) == "lab_chained")
    assert [step["comm"] for step in chained["chain"]] == ["lab-middle"]
    assert chained["chain"][0]["waits_for"]["name"] == "rtnl_mutex"
    (end,) = chained["waiters"]
    assert (end["comm"], end["state"]) == ("lab-end", "S")
    assert "lab-event-d" in {task["comm"] for task in document["others"]}
    tasks = [waiter for lock in document["locks"] for waiter in lock["waiters"]] + document["others"]
    traces = {task["pid"]: task["stack_trace"] for task in dump.truth["tasks"] if task["stack_trace"]}
    compared = {task["pid"]: task["function"] for task in tasks if task["pid"] in traces}
    assert len(compared) >= 12
    # The kernel's trace leaves the functions of the scheduler out, and with them those of locks, but for some of RT's.
    functions = {pid: [line.partition("+")[0] for line in traces[pid]] for pid in compared}
    assert compared == {
        pid: next(one for one in names if not one.lstrip("_").startswith("rt_mutex_"))
        for pid, names in functions.items()
    }


def test_states_and_how_long_ago_tasks_ran(gdb_run: Gdb, dump: LabDump) -> None:
    commands = ("kps -m lab-* --json", "kps --json", "kps --state D --json", "kps --state SD lab-a* --json")
    run = gdb_run(*commands, vmcore=dump.vmcore).succeeded()
    recent, every, asleep, some = (document["tasks"] for document in run.documents)
    ran = {task["pid"]: task["last_ran_ns"] for task in recent}
    assert list(ran.values()) == sorted(ran.values())
    waits = {user["pid"]: user["since"] for user in dump.truth["lock_users"] if not user["holds"]}
    # What the log's clock says of the same: each task ran for the last time shortly before it waited.
    pairs = [(ran[one] - ran[other], waits[other] - waits[one]) for one in waits for other in waits]
    assert all(abs(ours - theirs) < 200_000_000 for ours, theirs in pairs), pairs
    assert max(theirs for _, theirs in pairs) > 300_000_000
    assert asleep == [task for task in every if task["state"] == "D"] and len(asleep) > 5
    assert {task["comm"] for task in some} == {"lab-abba-0", "lab-abba-1"}
    assert all("last_ran_ns" not in task for task in every)


def test_a_dump_where_nobody_waits_says_so(gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    run = gdb_run("klock", "klock 1", vmcore=lab_dump("6.1-divide").vmcore)
    assert "no task was found to wait for a lock, and none is in state D" in run.stdout.splitlines()
    assert run.errors == ["klock: klock takes no operands; it shows all locks that somebody waits for"]


def test_damage_costs_what_it_hits(gdb_run: Gdb, lab_dump: Callable[[str], LabDump], tmp_path: Path) -> None:
    dump = lab_dump("6.1-locks")
    offset = "print/d (long)&((struct rw_semaphore *)0)->owner"
    before = gdb_run("klock --json", offset, vmcore=dump.vmcore).succeeded()
    locks = {name(lock): lock for lock in before.json()["locks"]}
    at = re.search(r"^\$\d+ = (\d+)$", before.stdout, re.MULTILINE)
    assert at
    patched = PatchedDump(dump.vmcore, tmp_path / "patched.vmcore")
    third = int(locks["rtnl_mutex"]["waiters"][2]["waiter"], 16)
    patched.write_words(third, 0x4141414141414141)
    patched.write_words(int(locks["lab_left"]["lock"], 16), 0x4242424242424240)
    # As if the last reader had been the writer: RWSEM_READER_OWNED.
    holder = locks["lab_rwsem"]["owner"]
    patched.write_words(int(locks["lab_rwsem"]["lock"], 16) + int(at[1]), int(holder["task"], 16) | 1)
    run = gdb_run("klock --json", "klock", vmcore=patched.path).succeeded()
    after = run.json()
    damaged = {name(lock): lock for lock in after["locks"]}
    # All of them: the list is followed from its other end, too.
    pids = [waiter["pid"] for waiter in locks["rtnl_mutex"]["waiters"]]
    assert [waiter["pid"] for waiter in damaged["rtnl_mutex"]["waiters"]] == pids
    (problem,) = after["problems"]
    found = re.match(r"those who wait for the lock of PID (\d+): next of 0x(\w+) is 0x4141414141414141", problem)
    assert found and int(found[1]) in pids and int(found[2], 16) == third
    assert (damaged["lab_left"]["held"], damaged["lab_left"]["owner"]) == ("unknown", None)
    assert after["deadlocks"] == []
    assert damaged["lab_rwsem"] == locks["lab_rwsem"] | {"held": "readers"}
    assert re.search(r"^lab_rwsem .*: held by readers \(the last that came: PID \d+ lab-rwsem-hold ", run.stdout, re.M)
    assert damaged["lab_chained"]["chain"] == locks["lab_chained"]["chain"]
