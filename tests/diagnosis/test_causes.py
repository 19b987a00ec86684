"""Kernels that crashed by themselves: the cause and the culprit that the lab knows, and nobody else accused."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump
from pytest_gdb_fixtures.lab import crashes, folder

LINES = ("6.1", "6.12")


CRASHES = {crash.name: crash for crash in crashes()}
# Those of continuous integration, and the others where they are.
DUMPS = [
    (line, name)
    for line in LINES if line in KERNELS
    for name, crash in CRASHES.items()
    if crash.cause and (line in crash.usual or (folder() / f"{line}-{name}.vmcore").is_file())
]  # fmt: skip


def test_every_cause_has_a_kernel_that_crashed_of_it() -> None:
    kinds = {crash.cause for crash in CRASHES.values() if crash.cause}
    assert kinds >= {"use-after-free", "poison", "race", "stack-overflow", "lockup", "hung-task", "unknown"}
    assert len({name for crash in CRASHES.values() for name in crash.usual}) >= 2


@pytest.mark.parametrize(("line", "name"), DUMPS)
def test_the_cause_and_who_did_it(gdb_run: Gdb, lab_dump: Callable[[str], LabDump], line: str, name: str) -> None:
    crash, dump = CRASHES[name], lab_dump(f"{line}-{name}")
    story = gdb_run("ktriage --json", vmcore=dump.vmcore).succeeded().json()
    cause, culprit = story["cause"], story["culprit"]
    assert cause is not None, story["summary"]
    assert cause["kind"] == crash.cause, cause
    # Nobody may be accused but who did it; to name nobody is no false sentence.
    assert culprit is None or (culprit["function"], culprit["module"]) == (crash.culprit, "rogue_drv"), culprit
    if crash.culprit and name != "hook-length":  # the hook had returned before
        assert culprit is not None or cause["kind"].startswith("overrun")
    assert story["kernel_says"] and cause["certainty"] in ("certain", "likely", "possible")
    said = "not about an sk_buff" if cause["kind"] == "unrelated" else cause["message"][1:]
    assert said in story["summary"]
    assert " is sound" not in story["summary"] and "panic_on_warn" not in story["summary"]
    assert (" fell in " in story["summary"]) == (cause["kind"] not in ("lockup", "hung-task"))
    if cause["kind"] == "unrelated":
        assert story["skb"] is None and story["findings"] == []
    if cause["kind"] == "overrun-neighbour":
        assert "to which module rogue_drv has a pointer" in story["summary"]
    # Every fact has a command that shows it.
    commands = [fact["command"] for fact in cause["evidence"]]
    assert commands and all(fact["text"] for fact in cause["evidence"])
    run = gdb_run(*commands, vmcore=dump.vmcore)
    assert run.status == 0 and "Traceback" not in run.output
    refused = [line for line in run.errors if line.startswith(("No symbol", "Undefined", "kstruct:", "kslab:"))]
    assert refused == [], refused


@pytest.mark.parametrize("line", [line for line in LINES if (folder() / f"{line}-rogue-healthy.vmcore").is_file()])
def test_its_healthy_twin_is_clean(gdb_run: Gdb, lab_dump: Callable[[str], LabDump], line: str) -> None:
    dump = lab_dump(f"{line}-rogue-healthy")
    story, everything = gdb_run("ktriage --json", "skbcheck --all --json", vmcore=dump.vmcore).succeeded().documents
    assert story["findings"] == everything["findings"] == []
    assert story["cause"]["kind"] == "unrelated" and story["culprit"] is None
    assert json.dumps(story["kernel_says"]).count("sysrq triggered crash") == 1


def test_the_reference_case_is_the_payloads_own(gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    dump = lab_dump("6.1-reference")
    story = gdb_run("ktriage --json", vmcore=dump.vmcore).succeeded().json()
    assert (story["cause"]["kind"], story["cause"]["object"]) == ("overrun-self", dump.truth["fault"]["skb"])
    assert story["culprit"] is None
