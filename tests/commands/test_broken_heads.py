"""What the commands about an sk_buff say where its buffer is not there: nothing twice, nothing that leads nowhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from patched_dump import PAGE, PatchedDump
from pytest_gdb_fixtures import Gdb, LabDump


def test_a_missing_page_is_told_once(gdb_run: Gdb, lab_dump: Callable[[str], LabDump], tmp_path: Path) -> None:
    dump = lab_dump("6.1-healthy")
    skbs = dump.skbs()
    by_head: dict[str, list[str]] = {}
    for addr, skb in skbs.items():
        by_head.setdefault(skb["head"], []).append(addr)
    clones = next(pair for pair in by_head.values() if len(pair) > 1)
    printed = gdb_run(f"print/x (unsigned long)$skb_shinfo({clones[0]})", vmcore=dump.vmcore).succeeded().stdout
    shared = int(re.findall(r"^\$\d+ = (0x[0-9a-f]+)", printed, re.MULTILINE)[0], 16)
    patched = PatchedDump(dump.vmcore, tmp_path / "patched.vmcore")
    patched.lose(shared & -PAGE)
    both = f"{clones[0]} {clones[1]}"
    run = gdb_run(f"skbcheck {both}", f"skbcheck --json {both}", vmcore=patched.path).succeeded()
    told = re.findall(r"^not judged: (0x[0-9a-f]+)", run.stdout, re.MULTILINE)
    assert told and len(told) == len(set(told))
    assert [hole["address"] for hole in run.json()["unreadable"]] == told


def test_without_a_head_nothing_is_to_be_examined(
    gdb_run: Gdb, lab_dump: Callable[[str], LabDump], tmp_path: Path
) -> None:
    dump = lab_dump("6.1-reference")
    skb = gdb_run("ktriage --json", vmcore=dump.vmcore).succeeded().json()["skb"]
    members = [f"print/x (unsigned long)&((struct sk_buff *){skb})->{name}" for name in ("head", "data")]
    printed = gdb_run(*members, vmcore=dump.vmcore).succeeded().stdout
    head, data = (int(value, 16) for value in re.findall(r"^\$\d+ = (0x[0-9a-f]+)", printed, re.MULTILINE))
    patched = PatchedDump(dump.vmcore, tmp_path / "patched.vmcore")
    begins = int.from_bytes(patched.read(head, 8), "little")
    patched.write_words(data, begins - 30)
    run = gdb_run("ktriage --json", f"skbcheck {skb}", vmcore=patched.path).succeeded()
    assert f"x/16xg {begins:#018x}" in run.json()["commands"]
    assert "(-30)" in run.stdout and "+-" not in run.stdout
    patched.write_words(head, 0)
    commands = gdb_run("ktriage --json", vmcore=patched.path).succeeded().json()["commands"]
    assert f"skbcheck {skb}" in commands and not [command for command in commands if command.startswith("x/")]
