"""What is not in the dump is named, and is neither absence nor corruption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_gdb_fixtures import KERNELS, Gdb, LabDump, run_launcher
from pytest_gdb_fixtures.left_out import leave_out

LINES = [line for line in ("6.1", "6.12") if line in KERNELS]


def _page_frames(addresses: list[str]) -> Any:
    from gdb_kdump import session
    from gdb_kdump.kernel.mm.pages import Pages

    pages = session.current().once(Pages)
    found = [pages.page_of(int(address, 16)) for address in addresses]
    return sorted({pages.pfn_of(page) for page in found if page is not None})


@pytest.fixture
def without(in_gdb: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """Makes a copy of a dump without the pages of some addresses."""

    def make(dump: LabDump, *addresses: str) -> Path:
        pages = in_gdb(_page_frames, list(addresses), vmcore=dump.vmcore)
        return leave_out(dump.vmcore, tmp_path / "vmcore", pages)

    return make


@pytest.mark.parametrize("line", LINES)
def test_an_sk_buff_whose_page_was_left_out(
    gdb_run: Gdb, lab_dump: Callable[[str], LabDump], without: Callable[..., Path], line: str
) -> None:
    dump = lab_dump(f"{line}-reference")
    skb = dump.truth["fault"]["skb"]
    vmcore = without(dump, skb)
    run = gdb_run("ktriage", "ktriage --json", "skbcheck --all --json", f"skbcheck {skb} --json", vmcore=vmcore)
    story, everything, alone = run.succeeded().documents
    (unread,) = [unread for unread in story["unread"] if unread["address"] == skb]
    assert unread["why"] == "FILTERED" and unread["role"].startswith("skb of ")
    assert story["skb"] == skb
    assert story["verdict"] == alone["verdict"] == "unknown"
    assert everything["verdict"] != "clean"
    assert skb in {hole["address"] for hole in everything["unreadable"]}
    assert story["cause"] is None or story["cause"]["kind"] != "unrelated"
    assert story["findings"] == everything["findings"] == alone["findings"] == []
    for text in (run.stdout, story["summary"]):
        assert skb in text and "left out" in text
        assert "not about an sk_buff" not in text and "is sound" not in text
    run = gdb_run(*story["commands"], vmcore=vmcore)
    assert "Traceback" not in run.output and not [line for line in run.errors if line.startswith("No symbol")]


@pytest.mark.parametrize("line", LINES)
def test_shared_info_that_was_left_out(
    gdb_run: Gdb, lab_dump: Callable[[str], LabDump], without: Callable[..., Path], line: str
) -> None:
    dump = lab_dump(f"{line}-reference")
    fault = dump.truth["fault"]
    vmcore = without(dump, fault["first_damaged"])
    story = gdb_run("ktriage --json", vmcore=vmcore).succeeded().json()
    assert story["skb"] == fault["skb"]
    (unread,) = [unread for unread in story["unread"] if unread["address"] == fault["first_damaged"]]
    assert "shared info" in unread["role"] and unread["why"] == "FILTERED"
    assert story["verdict"] == "unknown"
    assert " is sound" not in story["summary"]


@pytest.mark.parametrize("line", LINES[-1:])
def test_no_account_is_judged_by_half_of_the_sk_buffs(
    gdb_run: Gdb, lab_dump: Callable[[str], LabDump], without: Callable[..., Path], line: str
) -> None:
    dump = lab_dump(f"{line}-healthy")
    # What a packet socket has to read in its ring is charged to it and stands on no queue.
    skbs = [skb for skb in dump.truth["skbs"] if not int(skb["skb"], 16) & 0xFFF]
    vmcore = without(dump, *(skb["skb"] for skb in skbs))
    run = gdb_run("skbcheck --all --json", "ktriage --json", vmcore=vmcore).succeeded()
    for document in run.documents:
        assert document["findings"] == [], document["findings"]
    assert run.documents[0]["unreadable"]


@pytest.mark.skipif("6.1" not in LINES, reason="a dump of 6.1")
def test_an_sk_buff_that_is_still_being_made_is_none(gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    """A task that dies in the allocator, for the buffer of a new sk_buff, is innocent, and so is that."""
    run = gdb_run("ktriage --json", "skbcheck --all --json", vmcore=lab_dump("6.1-stale-write").vmcore).succeeded()
    story, everything = run.documents
    assert story["skb"] is None and story["skbs"] == []
    assert {finding["rule"] for finding in story["findings"]} == {"slab.freelist"}
    assert story["verdict"] == everything["verdict"] == "corrupt"


@pytest.mark.skipif("6.12" not in LINES, reason="a dump of 6.12")
def test_the_hook_that_must_have_changed_the_packet(gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    story = gdb_run("ktriage --json", vmcore=lab_dump("6.12-hook-length").vmcore).succeeded().json()
    hooks = {hook["function"]: hook for hook in story["hooks"] if hook["module"] == "rogue_drv"}
    hook = hooks["rogue_local_in"]
    assert (hook["hook"], hook["passed"]) == ("netfilter IPv4 LOCAL_IN", True) and "O" in hook["taint"]
    assert not any(other["passed"] for name, other in hooks.items() if name != "rogue_local_in")
    assert (story["culprit"]["function"], story["culprit"]["level"]) == ("rogue_local_in", None)
    assert "ip_rcv_core" in story["culprit"]["why"]


def test_the_launcher_ends_with_its_own_status(
    lab_dump: Callable[[str], LabDump], without: Callable[..., Path], tmp_path: Path
) -> None:
    dump = lab_dump("6.1-reference")
    skb = dump.truth["fault"]["skb"]
    vmcore = without(dump, skb)
    run = run_launcher(tmp_path, "--run", "ktriage", "--run", "kps", str(vmcore))
    assert run.status == 3 and f"UNREAD: {skb} (skb of " in run.stdout
    assert run_launcher(tmp_path, "--run", "ktriage", "--run", "nonsense", str(vmcore)).status == 1
