"""gdb_kdump.api, as a user's own Python imports it: against the commands, and told when there may be more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fixtures import containers
from pytest_gdb_fixtures import Gdb, LabDump

SCRIPT = """python
from gdb_kdump import api
import json
def shown(**lists): print(json.dumps(lists))
shown(tasks=[[int(t["pid"]), t["comm"].string(errors="replace"), str(t.type)] for t in api.tasks()])
shown(socks=[int(s) for s in api.socks()], type=str(next(api.socks()).type))
for s in api.socks():
    shown(sock=int(s), skbs=[[int(b), int(b["len"])] for b in api.sk_buffs(s)])
shown(all=[int(b) for b in api.sk_buffs()])
shown(objects=[int(o) for o in api.slab_objects("task_struct", "task_struct")])
shown(walk=[int(t["pid"]) for t in api.walk("list", gdb.parse_and_eval("init_task.tasks"), "task_struct.tasks")])
end"""


def test_a_users_own_python(gdb_run: Gdb, lab_dump: Callable[[str], LabDump], tmp_path: Any) -> None:
    script = tmp_path / "own.gdb"
    script.write_text(SCRIPT)
    run = gdb_run(f"source {script}", "kps --json", "ksock --json", vmcore=lab_dump("6.1-healthy").vmcore).succeeded()
    tasks, socks, *queues, everything, objects, walked, kps, ksock = run.documents
    assert [pid for pid, *_ in tasks["tasks"]] == [task["pid"] for task in kps["tasks"]]
    assert {"init", "lab-threads", "swapper/0"} <= {comm for _, comm, _ in tasks["tasks"]}
    assert {kind for *_, kind in tasks["tasks"]} == {"struct task_struct *"}
    assert [f"0x{sock:016x}" for sock in socks["socks"]] == [sock["sock"] for sock in ksock["socks"]]
    assert socks["type"] == "struct sock *"
    truth = {int(sock["sock"], 16): sock for sock in lab_dump("6.1-healthy").truth["socks"]}
    told = {queue["sock"]: queue["skbs"] for queue in queues}
    assert len(truth) > 3
    for sock, known in truth.items():
        members = sum(queue["members"] for queue in known["queues"])
        assert len(told[sock]) == members, known
        assert {skb for skb, _ in told[sock]} <= set(everything["all"])
    assert len(everything["all"]) == len(set(everything["all"]))
    assert set(walked["walk"]) < {task["pid"] for task in kps["tasks"]} and len(walked["walk"]) > 50
    # The first CPU's idle task is no object of a slab.
    assert {int(task["task"], 16) for task in kps["tasks"][1:]} <= set(objects["objects"])


def test_what_is_incomplete_is_said(gdb_run: Gdb, tmp_path: Any) -> None:
    made = containers.make(tmp_path)
    head, nodes = made.heads["hlist", "hole"], made.nodes["hlist", "hole"]
    run = gdb_run(
        "python from gdb_kdump import api",
        f"python print(len(list(api.walk('hlist', {made.heads['hlist', 'healthy']}))))",
        f"python gaps = []; print(len(list(api.walk('hlist', {head}, 'item.hlist', gaps=gaps))), gaps)",
        "python\ntry:\n"
        f"  for item in api.walk('hlist', {head}, 'item.hlist'): print('item', int(item['number']))\n"
        "except api.Incomplete as error: print('raised', error)\nend",
        "python list(api.slab_objects('nothing'))",
        vmcore=made.vmcore, vmlinux=made.vmlinux, script=True,
    )  # fmt: skip
    assert "\n8\n" in run.stdout and "\n4 ['next of" in run.stdout
    assert [line for line in run.stdout.splitlines() if line.startswith("item")] == [f"item {n}" for n in range(4)]
    assert f"raised there may be more: next of 0x{nodes[3]:016x}: cannot read" in run.stdout
    assert "MissingDebugInfo" in run.stderr or "no slab cache" in run.stderr


def test_without_a_dump_there_is_a_sentence(gdb_run: Gdb) -> None:
    run = gdb_run("python from gdb_kdump import api", "python list(api.tasks())")
    assert "no dump is open" in run.stderr


@pytest.mark.parametrize("name", ["tasks", "socks", "sk_buffs", "slab_objects", "walk"])
def test_what_is_public_is_documented(in_gdb: Callable[..., Any], name: str) -> None:
    assert in_gdb(documented, name)


def documented(name: str) -> bool:
    from gdb_kdump import api

    return name in api.__all__ and bool(getattr(api, name).__doc__)
