"""ktriage: from the panic alone to the sk_buff, its socket and the writer; and the right words when it is not that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump, dump_names


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_reference_case_in_one_command(gdb_run: Gdb, lab_dump: Callable[[str], LabDump], kernel: str) -> None:
    dump = lab_dump(f"{kernel}-reference")
    fault = dump.truth["fault"]
    run = gdb_run("ktriage", "print $_kfindings", "ktriage --json", vmcore=dump.vmcore).succeeded()
    story = run.json()
    assert story["frame"]["function"] == "skb_release_data"
    assert (story["skb"], story["sock"]) == (fault["skb"], fault["sock"])
    assert story["overrun"]["kind"] == "payload"
    assert story["overrun"]["first"] == fault["first_damaged"]
    assert story["overrun"]["length"] == fault["damaged_bytes"]
    assert story["overrun"]["period"] == 32
    rules = {finding["rule"] for finding in story["findings"] if finding["object"] == fault["skb"]}
    assert {"shinfo.nr_frags", "shinfo.overrun"} <= rules
    assert all(finding["object"] == fault["skb"] for finding in story["findings"])
    assert story["verdict"] == "corrupt"
    # Two are queued at first; the damaged one was taken off before it was freed.
    (queued,) = (queue["skbs"] for queue in story["queues"] if queue["skbs"])
    assert len(queued) == 1 and fault["skb"] not in queued
    assert "$1 = 0" not in run.stdout
    assert fault["skb"] in run.stdout and "32 bytes run on across end" in run.stdout


@pytest.mark.parametrize("name", dump_names("reference", "stale-write", "neighbour", "list-del"))
def test_every_command_that_it_prints_works(
    in_gdb: Callable[..., Any], lab_dump: Callable[[str], LabDump], name: str
) -> None:
    """Typed in the order in which they stand there; the frame is that of the fault."""

    def typed() -> dict[str, Any]:
        import json

        import gdb

        story = json.loads(gdb.execute("ktriage --json", to_string=True))
        commands = [*story["commands"], *(fact["command"] for fact in story["cause"]["evidence"])]
        failed, pcs = {}, []
        for command in commands:
            try:
                gdb.execute(command, to_string=True)
            except gdb.error as error:
                failed[command] = str(error)
            if command.startswith("frame "):
                pcs.append(f"{gdb.selected_frame().pc():#018x}")
        return {"commands": commands, "failed": failed, "pcs": pcs, "fault": story["frame"]["pc"]}

    found = in_gdb(typed, vmcore=lab_dump(name).vmcore)
    assert found["failed"] == {} and len(found["commands"]) >= 3
    assert found["pcs"] == [found["fault"]]


@pytest.mark.parametrize("name", dump_names("divide", "healthy", "nmi"))
def test_a_panic_about_something_else(gdb_run: Gdb, lab_dump: Callable[[str], LabDump], name: str) -> None:
    story = gdb_run("ktriage --json", vmcore=lab_dump(name).vmcore).succeeded().json()
    assert story["skb"] is None
    assert story["verdict"] == "clean"
    assert "not about an sk_buff" in story["summary"]
    assert "skbcheck --all judged" in story["summary"]
    assert story["panic"]["message"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_all_sk_buffs_of_a_healthy_system_are_sound(
    gdb_run: Gdb, lab_dump: Callable[[str], LabDump], kernel: str
) -> None:
    dump = lab_dump(f"{kernel}-healthy")
    document = gdb_run("skbcheck --all --json", vmcore=dump.vmcore).succeeded().json()
    assert document["findings"] == []
    assert document["verdict"] == "clean"
    assert document["checked"]["skbs"] >= len(dump.skbs())
    assert document["problems"] == []


@pytest.mark.parametrize("kernel", KERNELS)
def test_all_sk_buffs_of_a_damaged_system(gdb_run: Gdb, lab_dump: Callable[[str], LabDump], kernel: str) -> None:
    dump = lab_dump(f"{kernel}-faults")
    document = gdb_run("skbcheck --all --json", vmcore=dump.vmcore).succeeded().json()
    found = {(finding["rule"], finding["object"]) for finding in document["findings"]}
    faults = dump.truth["faults"]
    missed = [f["label"] for f in faults if not any((rule, o) in found for rule in f["rule"] for o in f["objects"])]
    assert len(missed) <= len(faults) // 20, missed
    assert document["verdict"] == "corrupt"
