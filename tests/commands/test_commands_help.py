"""What a command says of itself: help with a Usage line and every option, and completion, in a gdb without a dump."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from pytest_gdb_fixtures import Gdb, LabDump

# The contract: these names and options stay; there may be more.
CONTRACT = {
    "kinfo": {"--json"},
    "kps": {"-m", "--state", "--json"},
    "kbt": {"-a", "-c", "-f", "-l", "-v", "-s", "-T", "-e", "-R", "--state", "--grep", "--group", "--json"},
    "kstruct": {"-o", "-x", "-d", "-r", "-p", "-c", "-l", "--json"},
    "shinfo": {"--json"},
    "skbwalk": {"--queue", "--pcap", "--json"},
    "skbcheck": {"--sock", "--all", "--json"},
    "ktriage": {"-v", "--json"},
    "ksock": {"--json"},
    "kslab": {"--json"},
    "kmod": {"-s", "-S", "--json"},
    "kwalk": {"-o", "-s", "-r", "-c", "-x", "--json"},
    "kwhat": {"-p", "--json"},
    "ksearch": {"-r", "-m", "-w", "-h", "-c", "-b", "-k", "-p", "-t", "-l", "-s", "-e", "-n", "-x", "--json"},
    "krd": {"-s", "-S", "-p", "--json"},
    "klock": {"--json"},
    "knet": {"--hooks", "-a", "--neigh", "--json"},
    "kreport": {"-j", "--json"},
    "klog": {"-T", "--json"},
}
FUNCTIONS = ("skb_shinfo", "skb_end_pointer", "task", "per_cpu", "container_of", "kwalk")


def options_of_commands() -> dict[str, list[str]]:
    from gdb_kdump.commands import COMMANDS

    base: list[Any] = [command for command in COMMANDS if hasattr(command, "options")]
    return {command.name: [*(option.name for option in command.options), "--json"] for command in base}


@pytest.fixture
def commands(in_gdb: Callable[..., Any]) -> dict[str, list[str]]:
    """The options of every registered command, except `target kdump`, which has none."""
    found = in_gdb(options_of_commands)
    assert isinstance(found, dict)
    return found


def test_the_contract_is_kept(commands: dict[str, list[str]]) -> None:
    for name, options in CONTRACT.items():
        assert options <= set(commands[name]), name


def test_help_has_a_usage_line_and_every_option(gdb_run: Gdb, commands: dict[str, list[str]]) -> None:
    run = gdb_run(*(line for name in commands for line in (f"echo @@{name}\\n", f"help {name}"))).succeeded()
    for part in run.stdout.split("@@")[1:]:
        name, _, help_text = part.partition("\n")
        lines = help_text.splitlines()
        assert re.match(r"[A-Z].*[.:?]$", lines[0]), lines[0]
        assert lines[1].startswith(f"Usage: {name} ["), lines[1]
        for option in commands[name]:
            assert f"[{option}" in lines[1], lines[1]
            assert re.search(rf"^  {option}\b.*  \S", help_text, re.MULTILINE), f"{name} {option} is not explained"
        assert max(map(len, lines)) <= 140, max(lines, key=len)


def test_options_complete(gdb_run: Gdb, commands: dict[str, list[str]]) -> None:
    run = gdb_run(*(f"complete {name} {start}" for name in commands for start in ("-", "--js"))).succeeded()
    lines = run.stdout.splitlines()
    for name, options in commands.items():
        for option in options:
            assert f"{name} {option}" in lines, name
        assert lines.count(f"{name} --json") == 2, name


def test_unknown_options_are_named_with_those_that_exist(
    gdb_run: Gdb, commands: dict[str, list[str]], lab_dump: Callable[[str], LabDump]
) -> None:
    run = gdb_run(*(f"{name} --nonsense" for name in commands), vmcore=lab_dump("6.1-reference").vmcore)
    assert "Traceback" not in run.output, run.output
    said = {line.partition(":")[0]: line for line in run.errors if "--nonsense" in line}
    assert set(said) == set(commands)
    for name, options in commands.items():
        assert all(option in said[name] for option in options), said[name]


def test_target_kdump_is_listed_among_the_targets(gdb_run: Gdb) -> None:
    run = gdb_run("help target", "help target kdump", "complete target kd").succeeded()
    assert re.search(r"^target kdump -- ", run.stdout, re.MULTILINE)
    assert "Usage: target kdump VMCORE [VMLINUX]" in run.stdout
    assert "target kdump" in run.stdout.splitlines()


def test_convenience_functions_have_help(gdb_run: Gdb) -> None:
    listed = gdb_run("help function").succeeded().stdout
    for name in FUNCTIONS:
        assert re.search(rf"^function {name} -- ", listed, re.MULTILINE), name


def test_sourcing_says_nothing_and_looks_nothing_up(gdb_run: Gdb) -> None:
    run = gdb_run("python print('@', gdb.objfiles(), gdb.current_progspace().filename)").succeeded()
    assert run.stdout == "@ [] None\n"
    assert run.stderr == ""
