"""What a user reads is true: every GDB command in README.md and in the tour runs, gdbinit.example can be sourced."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from pytest_gdb_fixtures import Gdb, LabDump
from pytest_gdb_fixtures.process import INIT

ROOT = Path(__file__).resolve().parents[1]


def test_every_command_of_the_readme_runs(gdb_run: Gdb, lab_dump: Callable[[str], LabDump]) -> None:
    text = "".join((ROOT / name).read_text() for name in ("README.md", "docs/pages/tour.md"))
    lines = re.findall(r"^\(gdb\) (.*)$", text, re.MULTILINE)
    commands = [line for line in lines if not line.startswith(("source ", "target "))]
    assert len(commands) >= 15
    run = gdb_run(*commands, vmcore=lab_dump("6.1-reference").vmcore, script=True).succeeded()
    # GDB looks for the kernel's sources, which nobody needs.
    assert [line for line in run.errors if "No such file or directory" not in line] == []


def test_what_the_readme_names_exists() -> None:
    text = "".join((ROOT / name).read_text() for name in ("README.md", "docs/pages/tour.md", "CONTRIBUTING.md"))
    names = set(re.findall(r"(?<![\w/.~-])((?:scripts|tests|gdb_kdump|commands|\.ci)/[\w./-]*\w)", text))
    assert len(names) >= 10
    for name in names:
        assert (ROOT / name).exists(), name


def test_gdbinit_example(gdb_run: Gdb, tmp_path: Path, lab_dump: Callable[[str], LabDump]) -> None:
    text = (ROOT / "gdbinit.example").read_text()
    example = tmp_path / "gdbinit"
    example.write_text(re.sub(r"^source .*", f"source {INIT}", text, flags=re.MULTILINE))
    dump = lab_dump("6.1-reference")
    opening = (f"source {example}", f"target kdump {dump.vmcore}")
    run = gdb_run(*opening, "ps 1", "struct sk_buff_head", "sys", plugin=False, script=True).succeeded()
    assert "init" in run.stdout and "SIZE: 24" in run.stdout and dump.truth["kernel"] in run.stdout
    assert re.search(r'^# "\\e\[15~": "kbt\\n"$', text, re.MULTILINE)
