"""What a command says of itself: help with a Usage line and every option, and completion, in a gdb without a dump."""

from __future__ import annotations

import re

import pytest
from pytest_gdb_fixtures import Gdb

# The contract: these names and options stay.
COMMANDS = {
    "kinfo": ["--json"],
    "kps": ["--json"],
    "kbt": ["-a", "-c", "-l", "--json"],
    "kstruct": ["-o", "-x", "-d", "-r", "-p", "-c", "-l", "--json"],
    "shinfo": ["--json"],
    "skbwalk": ["--queue", "--json"],
    "skbcheck": ["--sock", "--json"],
}
FUNCTIONS = ("skb_shinfo", "skb_end_pointer", "task", "per_cpu", "container_of")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_a_usage_line_and_every_option(gdb_run: Gdb, command: str) -> None:
    help_text = gdb_run(f"help {command}").succeeded().stdout
    lines = help_text.splitlines()
    assert re.match(r"[A-Z].*[.:]", lines[0]), lines[0]
    usage = next(line for line in lines if line.startswith(f"Usage: {command}"))
    for option in COMMANDS[command]:
        assert f"[{option}" in usage, usage
        assert re.search(rf"^  {option}\b.*  \S", help_text, re.MULTILINE), f"{option} is not explained"
    assert max(map(len, lines)) <= 140, max(lines, key=len)


@pytest.mark.parametrize("command", COMMANDS)
def test_options_complete(gdb_run: Gdb, command: str) -> None:
    run = gdb_run(f"complete {command} -", f"complete {command} --js").succeeded()
    for option in COMMANDS[command]:
        assert f"{command} {option}" in run.stdout.splitlines(), run.stdout
    assert run.stdout.splitlines().count(f"{command} --json") == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_options_are_named_with_those_that_exist(gdb_run: Gdb, command: str, dump_commands: str) -> None:
    run = gdb_run(dump_commands, f"{command} --nonsense", script=True)
    assert run.status == 1
    (error,) = (line for line in run.errors if "--nonsense" in line)
    assert all(option in error for option in COMMANDS[command]), error


@pytest.fixture
def dump_commands(lab_dump) -> str:  # type: ignore[no-untyped-def]
    return f"target kdump {lab_dump('6.1-reference').vmcore}"


def test_target_kdump_is_listed_among_the_targets(gdb_run: Gdb) -> None:
    run = gdb_run("help target", "help target kdump", "complete target kd").succeeded()
    assert re.search(r"^target kdump -- ", run.stdout, re.MULTILINE)
    assert "Usage: target kdump VMCORE [VMLINUX]" in run.stdout
    assert "target kdump" in run.stdout.splitlines()


def test_every_registered_command_is_in_the_contract(gdb_run: Gdb) -> None:
    run = gdb_run(
        "python from gdb_kdump.commands import COMMANDS",
        "python for command in COMMANDS: print('@', getattr(command, 'name', 'target kdump'))",
    ).succeeded()
    registered = set(re.findall(r"^@ (.*)$", run.stdout, re.MULTILINE))
    assert registered == {*COMMANDS, "target kdump"}


def test_convenience_functions_have_help(gdb_run: Gdb) -> None:
    listed = gdb_run("help function").succeeded().stdout
    for name in FUNCTIONS:
        assert re.search(rf"^function {name} -- ", listed, re.MULTILINE), name


def test_sourcing_says_nothing_and_looks_nothing_up(gdb_run: Gdb) -> None:
    run = gdb_run("python print('@', gdb.objfiles(), gdb.current_progspace().filename)").succeeded()
    assert run.stdout == "@ [] None\n"
    assert run.stderr == ""
