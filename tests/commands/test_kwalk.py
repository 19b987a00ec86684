"""kwalk: every kind of container, against what the fixture put in and against other ways to the same on real dumps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fixtures import containers
from fixtures.containers import COUNT, Made
from pytest_gdb_fixtures import Gdb, LabDump, Run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return containers.make(tmp_path_factory.mktemp("containers"))


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return containers.make(tmp_path_factory.mktemp("radix"), old_radix=True)


def walked(gdb_run: Gdb, made: Made, *options: str) -> dict[tuple[str, str], Any]:
    """What kwalk says of every container of a dump."""
    commands = [f"kwalk {kind} {head:#x} --json {' '.join(options)}" for (kind, _), head in made.heads.items()]
    run = gdb_run(*commands, vmcore=made.vmcore, vmlinux=made.vmlinux).succeeded()
    return dict(zip(made.heads, run.documents, strict=True))


def addresses(document: Any) -> list[int | None]:
    return [None if node["address"] is None else int(node["address"], 16) for node in document["nodes"]]


def test_healthy_containers_are_whole_in_both_directions(gdb_run: Gdb, made: Made) -> None:
    forward, backward = walked(gdb_run, made), walked(gdb_run, made, "-r")
    for key, document in forward.items():
        kind, damage = key
        if damage in ("healthy", "empty"):
            assert (document["complete"], document["problem"], document["problems"]) == (True, None, []), key
            assert document["count"] == len(document["nodes"])
            assert list(reversed(document["nodes"])) == backward[key]["nodes"], key
            if kind not in ("maple", "xarray"):
                assert addresses(document) == made.nodes[key], key
        else:
            assert not document["complete"] and document["problem"] and document["last_good"], key
            assert len(document["problems"]) == 1, key


def test_entries_come_with_their_indices(gdb_run: Gdb, made: Made, old: Made) -> None:
    forward = walked(gdb_run, made)
    _, first, second, third, fourth = made.nodes["xarray", "healthy"]
    assert [(node["first"], node["last"]) for node in forward["xarray", "healthy"]["nodes"]] == [
        (3, 3), (64, 64), (66, 66), (320, 323), (325, 325),
    ]  # fmt: skip
    assert addresses(forward["xarray", "healthy"]) == [first, second, third, fourth, None]
    assert forward["xarray", "healthy"]["nodes"][-1]["value"] == 99
    _, *entries = made.nodes["maple", "healthy"]
    assert [(node["first"], node["last"]) for node in forward["maple", "healthy"]["nodes"]] == [
        (16, 31), (32, 63), (64, 64), (4096, (1 << 64) - 1),
    ]  # fmt: skip
    assert addresses(forward["maple", "healthy"]) == [*entries[:2], None, entries[2]]
    radix = walked(gdb_run, old)["radix", "healthy"]
    assert addresses(radix) == [*old.nodes["radix", "healthy"][1:], None]
    assert [node["first"] for node in radix["nodes"]] == [3, 4, 320, 325] and radix["nodes"][-1]["value"] == 99


def test_a_cycle_is_told_with_both_addresses(gdb_run: Gdb, made: Made) -> None:
    documents = walked(gdb_run, made)
    for kind in ("list", "hlist", "hlist_nulls", "llist"):
        nodes, document = made.nodes[kind, "cycle"], documents[kind, "cycle"]
        assert document["problem"] == f"next of 0x{nodes[5]:016x} leads back to 0x{nodes[2]:016x}"
        assert int(document["last_good"], 16) == nodes[5]
        # A list has another end.
        assert addresses(document) == (nodes if kind == "list" else nodes[:6])
    nodes, document = made.nodes["rbtree", "cycle"], documents["rbtree", "cycle"]
    assert document["problem"] == f"rb_right of 0x{nodes[6]:016x} leads back to 0x{nodes[3]:016x}"
    assert addresses(document) == nodes


def test_what_follows_a_wild_link_or_a_hole_is_told_as_missing(gdb_run: Gdb, made: Made, old: Made) -> None:
    documents = walked(gdb_run, made) | {key: value for key, value in walked(gdb_run, old).items() if "radix" in key}
    for kind in ("list", "hlist", "hlist_nulls", "llist"):
        for damage, missing in (("wild", []), ("hole", [4])):
            nodes, document = made.nodes[kind, damage], documents[kind, damage]
            reached = [*range(4)] if kind != "list" else [n for n in range(COUNT) if n not in missing]
            assert addresses(document) == [nodes[number] for number in reached], (kind, damage)
            assert int(document["last_good"], 16) == nodes[3]
            assert ("FILTERED" in document["problem"]) == (damage == "hole")
    whole = {"rbtree": 7, "xarray": 5, "maple": 4, "radix": 4}
    left = {"wild": {"rbtree": 6, "xarray": 3, "maple": 1, "radix": 2}, "hole": {"rbtree": 4, "xarray": 3}}
    for damage, counts in left.items():
        for kind, count in counts.items():
            document = documents[kind, damage]
            assert document["count"] == count < whole[kind], (kind, damage)
            assert ("left out of the dump" in document["problem"]) == (damage == "hole")


def test_a_node_that_names_another_before_it(gdb_run: Gdb, made: Made) -> None:
    documents = walked(gdb_run, made)
    for kind, link in (("list", "prev"), ("hlist", "pprev"), ("hlist_nulls", "pprev")):
        nodes, document = made.nodes[kind, "liar"], documents[kind, "liar"]
        assert document["problem"] == (
            f"{link} of 0x{nodes[4]:016x} is 0x{nodes[1]:016x}, not 0x{nodes[3]:016x}"
        )  # fmt: skip
        assert addresses(document) == nodes  # the way there is right
    assert "whose parent is" in documents["xarray", "liar"]["problem"]
    assert "whose parent is" in documents["maple", "liar"]["problem"]


def test_objects_and_their_members(gdb_run: Gdb, made: Made) -> None:
    head = made.heads["list", "healthy"]
    run = gdb_run(
        f"kwalk list {head:x} -o item.list -s item.number,low,name --json",
        f"kwalk list {head:x} -o item.list -s item.number,name",
        f"kwalk list {head:x} -c",
        f"kwalk maple {made.heads['maple', 'healthy']:x}",
        f'print $kwalk("list", {head:#x}, "item.list")[2]->name',
        'print *$kwalk("llist", &heads, "item.llist")[0]',
        vmcore=made.vmcore, vmlinux=made.vmlinux,
    )  # fmt: skip
    (document,) = run.documents
    items = [node["members"] for node in document["nodes"]]
    assert items == [{"number": n, "low": n % 8, "name": f"item-{n}"} for n in range(COUNT)]
    first = int(document["nodes"][0]["address"], 16)
    assert f'0x{first:016x}  number = 0  name = "item-0"' in run.stdout
    assert f"\n{COUNT} elements\n" in run.stdout
    assert "[0x10-0x1f] 0x" in run.stdout and "[64] value 5\n" in run.stdout
    assert '$1 = "item-2' in run.stdout
    assert "$kwalk: the container has no elements" in run.stderr


def test_the_limit_and_bad_input(gdb_run: Gdb, made: Made) -> None:
    head = made.heads["list", "healthy"]
    commands = (
        "kwalk", "kwalk heap 0xffff888010001018", "kwalk list 0", "kwalk list 0xffff888010001019", "kwalk xarray 1234",
        f"kwalk list {head:x} -o item", f"kwalk list {head:x} -o item.nothing", f"kwalk list {head:x} -s nothing.x",
    )  # fmt: skip
    run = gdb_run("set kdump max-elements 3", f"kwalk list {head:x} --json", *commands,
                  vmcore=made.vmcore, vmlinux=made.vmlinux)  # fmt: skip
    (part,) = run.documents
    assert (part["count"], part["complete"]) == (3, False) and "set kdump max-elements" in part["problem"]
    assert "Traceback" not in run.output
    refusals = [line for line in run.errors if line.startswith("kwalk: ")]
    assert len(refusals) == len(commands)
    assert "kinds are list, hlist" in refusals[0] and "no kind 'heap'" in refusals[1]
    assert all("can be no head" in line for line in refusals[2:5])
    assert "takes STRUCT.MEMBER" in refusals[5] and "member nothing in struct item" in refusals[6]
    assert "no struct nothing" in refusals[7]


def real(run: Run, *whole: str) -> list[Any]:
    documents = run.succeeded().documents
    for document in documents:
        if "kind" in document:
            assert document["complete"], document["problem"]
    return documents


def test_containers_of_a_real_kernel(gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    run = gdb_run(
        "kps --json",
        "kwalk list init_task.tasks -o task_struct.tasks -s task_struct.pid,comm --json",
        "kwalk xarray init_pid_ns.idr --json",
        "kwalk maple $task(1)->mm->mm_mt -s vm_area_struct.vm_start,vm_end --json",
        "kwalk rbtree vmap_area_root -o vmap_area.rb_node -s vmap_area.va_start --json",
        "kwalk list vmap_area_list -o vmap_area.list -s vmap_area.va_start --json",
        "kwalk list modules -o module.list -s module.name --json",
        "output $task(1)->mm->map_count", "echo @\\n",
        vmcore=lab_dump("6.1-healthy").vmcore,
    )  # fmt: skip
    tasks, listed, pids, areas, tree, chain, modules = real(run)
    by_pid = {task["pid"]: task for task in tasks["tasks"]}
    leaders = {node["members"]["pid"]: node for node in listed["nodes"]}
    assert len(leaders) > 50 and leaders.keys() <= by_pid.keys()
    assert all(node["address"] == by_pid[pid]["task"] for pid, node in leaders.items())
    assert {node["first"] for node in pids["nodes"]} == {pid for pid in by_pid if pid}
    assert f"{areas['count']}@" in run.stdout and areas["count"] > 5
    for node in areas["nodes"]:
        assert (node["first"], node["last"] + 1) == (node["members"]["vm_start"], node["members"]["vm_end"])
    assert tree["nodes"] == chain["nodes"] and tree["count"] > 50
    assert [node["members"]["name"] for node in modules["nodes"]] == ["kdump_lab"]
