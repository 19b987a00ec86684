"""GDB is not ours alone: whatever settings, hooks and handlers others have, a dump opens, or one sentence says why not.

After a dump that was closed, or did not open, GDB is as it was before: all that `show` shows, the inferior, processes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from pytest_gdb_fixtures import Gdb, LabDump

SETTINGS = (
    "input-radix 0x10",
    "non-stop on",
    "observer on",
    "language pascal",
    "language rust",
    "osabi GNU/Linux",
    "case-sensitive off",
    "breakpoint always-inserted on",
    "max-value-size 0x40",
    "backtrace limit 0x2",
    "dcache line-size 0x100",
    "remotetimeout 0x1e",
    "python print-stack full",
    "confirm on",
    "pagination on",
    "may-write-memory off",
)


@pytest.fixture(scope="module")
def dump(lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump("6.1-reference")


def open_under(vmcore: str, settings: list[str]) -> dict[str, Any]:
    """By setting: what `show` has before and after a dump was open, and what kbt and bt have of it; "" for none."""
    import gdb

    from gdb_kdump.debuginfo.gdb_settings import change

    def shown() -> list[str]:
        # GDB's memory of packets, values and indexes is no setting.
        noise = ("remote ", "$", "convenience: ", "values: ", "index-cache stats: ", "commands: ")
        lines = str(gdb.execute("show", to_string=True)).splitlines()
        return [line.partition("(currently")[0] for line in lines if line.strip() and not line.startswith(noise)]

    found = {}
    for setting in ["", *settings]:
        name, _, value = setting.rpartition(" ")
        usual = gdb.parameter(name) if name else None
        if name:
            change(name, value)
        before = shown()
        gdb.execute(f"target kdump {vmcore}", to_string=True)
        traces = [
            gdb.execute("kbt --json", to_string=True),
            gdb.execute("bt -frame-info short-location 2", to_string=True),
        ]
        gdb.execute("disconnect", to_string=True)
        after = shown()
        found[setting] = {"traces": traces, "changed": sorted(set(before) ^ set(after)), "of": len(before)}
        if name:
            change(name, usual)
    return found


def test_a_dump_opens_under_any_settings_and_leaves_them(in_gdb: Callable[..., Any], dump: LabDump) -> None:
    found = in_gdb(open_under, str(dump.vmcore), SETTINGS, plugin=True)
    usual = found[""]
    assert "_compound_head" in usual["traces"][1]
    for setting, seen in found.items():
        assert seen["of"] > 200 and not seen["changed"], f"{setting}: {seen['changed']}"
        assert seen["traces"] == usual["traces"], setting


FAILS = "\nprint 1/0\nend"
HANDLER = "python\ndef handler(event):\n  {}\nfor one in handled: one.connect(handler)\nend"
EVERY = (
    "stop", "new_objfile", "clear_objfiles", "new_thread", "new_inferior", "memory_changed", "register_changed",
    "before_prompt", "connection_removed", "exited", "cont",
)  # fmt: skip
# Commands that have a hook, what that does, and what is said of it: why the dump does not open, or "" or a warning.
HOOKS = (
    (
        ["hook-symbol-file"],
        FAILS,
        "target kdump: GDB cannot read .*: Division by zero",
    ),  # first: GDB has them after that
    (["target hook-remote"], FAILS, "target kdump: GDB could not connect .*: Division by zero"),
    (["target hookpost-remote"], FAILS, "warning: the dump is open, but .* has failed: Division by zero"),
    (["target hookpost-remote"], "\ndisconnect\nend", "target kdump: .* has left it at once: a plugin or a hook"),
    (["hook-add-symbol-file", "hook-disconnect", "hook-detach"], FAILS, "target kdump: .* Division by zero"),
    (["hook-nosharedlibrary"], FAILS, "target kdump: GDB could not connect .*: Division by zero"),
    (["hook-target", "hook-stop", "hookpost-frame", "hook-set", "hook-backtrace", "hookpost-thread"], FAILS, ""),
    (["kill-all", "ktask", "refs"], "\necho mine\nend", ""),
    (["stop"], HANDLER.format("gdb.execute('kill')"), "target kdump: .* has left it at once: a plugin or a hook"),
    (["stop"], HANDLER.format("gdb.execute('bt 3', to_string=True); gdb.execute('thread 3', to_string=True)"), ""),
    (EVERY, HANDLER.format("raise RuntimeError('of another plugin')"), ""),
)


def open_among(vmcore: str, hooks: list[tuple[list[str], str, str]]) -> list[Any]:
    """For each entry of HOOKS: what is said on opening; GDB before, after, and without them; the task that panicked."""
    import json
    import os

    import gdb

    names = (
        "may-write-memory", "dcache line-size", "backtrace past-main", "osabi", "remotetimeout", "confirm", "language",
        "input-radix", "architecture", "pagination", "non-stop", "max-value-size",
    )  # fmt: skip

    def state() -> list[Any]:
        with open(f"/proc/self/task/{os.getpid()}/children") as children:
            server = children.read()
        inferior = gdb.selected_inferior()
        return [*map(gdb.parameter, names), inferior.pid, str(inferior.connection), server]

    def execute(command: str) -> str:
        try:
            return str(gdb.execute(command, to_string=True))
        except gdb.error as error:
            return str(error)

    found = []
    gdb.execute("set input-radix 16")
    for given, does, _ in hooks:
        before, is_handler = state(), does.startswith("python")
        gdb.execute(f"python handled = [getattr(gdb.events, name, None) for name in {given!r}]")
        for command in [does] if is_handler else [f"define {name}{does}" for name in given]:
            gdb.execute(command)
        said = [line for line in execute(f"target kdump {vmcore}").splitlines() if line.startswith(("target", "warn"))]
        opened, shown = state(), execute("kinfo --json")
        for command in (
            ["python for one in handled: one.disconnect(handler)"]
            if is_handler
            else [f"define {name}\nend" for name in given]
        ):
            gdb.execute(command)
        execute("disconnect")
        after = state()
        execute(f"target kdump {vmcore}")
        pid = json.loads(execute("kinfo --json"))["panic"]["pid"]
        execute("disconnect")
        found.append([said, shown, before, opened, after, pid])
    return found


def test_a_dump_opens_among_hooks_and_handlers(in_gdb: Callable[..., Any], dump: LabDump) -> None:
    found = in_gdb(open_among, str(dump.vmcore), HOOKS, plugin=True)
    for (names, _, sentence), (said, shown, before, opened, after, pid) in zip(HOOKS, found, strict=True):
        assert len(said) == bool(sentence) and all(re.search(sentence, line) for line in said), (names, said)
        if sentence.startswith("target"):
            assert shown.startswith("kinfo: no dump is open") and opened == before, (names, before, opened)
        else:
            assert json.loads(shown)["panic"]["pid"] == dump.truth["panic_task"]["pid"], names
        assert after == before and pid == dump.truth["panic_task"]["pid"], (names, before, after)


@pytest.mark.parametrize("how", ["add-inferior", "add-inferior -no-connection"])
def test_one_inferior_has_the_dump(gdb_run: Gdb, dump: LabDump, lab_dump: Callable[[str], LabDump], how: str) -> None:
    other = lab_dump("6.12-reference")
    opened = f"target kdump {other.vmcore}"
    mark = "python gdb.write('@@\\n', 2)"
    asked = ("kbt", "print $task(1)", opened, "kinfo --json")
    run = gdb_run(how, "inferior 2", mark, *asked, mark, "inferior 1", "kinfo --json", opened, "kinfo --json", "bt 1",
                  vmcore=dump.vmcore)  # fmt: skip
    assert "Traceback" not in run.output, run.output
    refusals = run.stderr.split("@@\n")[1].splitlines()
    assert len(refusals) == len(asked), refusals
    assert all(re.search("inferior 1.*(is not selected: `inferior 1`|has a dump)", line) for line in refusals), refusals
    assert [info["release"] for info in run.documents] == [dump.truth["kernel"], other.truth["kernel"]]
    assert re.search(r"^#0 +_compound_head \(", run.stdout, re.MULTILINE), run.output


def test_a_process_in_non_stop_mode_is_left_alone(gdb_run: Gdb, dump: LabDump) -> None:
    run = gdb_run("set non-stop on", "file /bin/true", "starti", "add-inferior -no-connection", "inferior 2",
                  f"target kdump {dump.vmcore}", "show non-stop", "info inferiors")  # fmt: skip
    assert re.search(r"^target kdump: GDB debugs process \d+ in non-stop mode", run.stderr, re.MULTILINE), run.output
    assert "non-stop mode is on" in run.stdout and re.search(r"^  1 +process \d+", run.stdout, re.MULTILINE), run.output
