"""Every command under the settings that users and plugins change: its text comes, and its JSON is what it always is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pytest_gdb_fixtures import LabDump

# Set for a while in an open dump.
SETTINGS = (
    "input-radix 16",
    "input-radix 8",
    "output-radix 16",
    "scheduler-locking on",
    "case-sensitive off",
    "breakpoint always-inserted on",
    "max-value-size 16",
    "backtrace limit 2",
    "auto-load python-scripts off",
    "python print-stack full",
    "python print-stack none",
    "language pascal",
    "language rust",
    "language asm",
    "language ada",
    "language c++",
    "language fortran",
    "language minimal",
    "language modula-2",
    "print pretty on",
    "print address off",
    "print symbol off",
    "print symbol-filename on",
    "print max-symbolic-offset 1",
    "print elements 1",
    "print characters 1",
    "print repeats 1",
    "print max-depth 0",
    "print array on",
    "print array-indexes on",
    "print object on",
    "print union off",
    "print static-members off",
    "print vtbl on",
    "print demangle off",
    "print asm-demangle on",
    "print sevenbit-strings on",
    "print null-stop on",
    "print raw-values on",
    "print type methods off",
    "print type hex on",
    "print finish off",
    "print inferior-events off",
    "print thread-events off",
    "print entry-values both",
    "print frame-arguments none",
    "print frame-info location",
    "print raw-frame-arguments on",
    "width 20",
    "height 5",
    "pagination on",
    "confirm on",
    "style enabled on",
    "verbose on",
    "disassembly-flavor intel",
    "disassemble-next-line on",
    "max-value-size unlimited",
    "max-completions 0",
    "unwindonsignal on",
    "unwind-on-terminating-exception off",
    "backtrace past-main off",
    "backtrace past-entry off",
    "filename-display basename",
    "endian big",
    "history expansion on",
    "history save on",
    "logging enabled on",
    "listsize 1",
    "sysroot /nowhere",
    "debuginfod enabled off",
    "charset ASCII",
    "host-charset ASCII",
    "target-charset EBCDIC-US",
    "target-wide-charset UTF-32",
    "opaque-type-resolution off",
    "overload-resolution off",
    "multiple-symbols cancel",
    "check type off",
    "check range on",
    "stack-cache off",
    "dcache line-size 4096",
    "dcache size 1",
    "remotecache on",
    "trust-readonly-sections on",
    "suppress-cli-notifications on",
    "remotetimeout 1",
    "extended-prompt \\w",
    "kdump max-elements 100000",
    "kdump payload off",
)
# The JSON that may be another one: a file is named as the user wants it, and a byte order is believed.
MAY_DIFFER = {("filename-display basename", "kbt"), ("filename-display basename", "ktriage"), ("endian big", "kstruct"),
              ("endian big", "ktriage")}  # fmt: skip
NEW = {"print characters 1", "unwind-on-terminating-exception off", "suppress-cli-notifications on"}  # after GDB 13


def commands(dump: LabDump) -> list[str]:
    """Every command, on something that the dump surely has."""
    skb, sock = dump.truth["fault"]["skb"], dump.truth["socks"][0]["sock"]
    return [
        "kinfo",
        "kps",
        "kbt",
        f"kstruct sk_buff {skb}",
        "kstruct task_struct.comm,pid,se -o",
        f"shinfo {skb}",
        f"skbwalk {sock}",
        f"skbcheck {skb}",
        "klog",
        "ktriage",
        "kmod",
        "kslab -l",
        "ksock",
        "kwalk list MODULES",
    ]


@pytest.fixture(scope="module")
def dump(lab_dump: Callable[[str], LabDump]) -> LabDump:
    return lab_dump("6.1-reference")


def try_out(lines: list[str], settings: list[str]) -> dict[str, Any]:
    """What fails, and whose JSON is another one, under each setting; which settings this GDB lacks; all JSON."""
    import gdb

    from gdb_kdump.debuginfo.gdb_settings import change
    from gdb_kdump.errors import DumpError

    def run(command: str) -> str:
        try:
            return str(gdb.execute(command, to_string=True))
        except (gdb.error, gdb.GdbError) as error:
            return f"error: {error}"

    lines = [line.replace("MODULES", hex(int(gdb.parse_and_eval("&modules")))) for line in lines]
    for line in lines:
        run(f"{line} --json")  # what is read once, such as the rows of the layout, is known after that
    usual = {line: run(f"{line} --json") for line in lines}
    wrong, unknown = {}, []
    for setting in settings:
        name, _, value = setting.rpartition(" ")
        try:
            before = gdb.parameter(name)
            change(name, value)
        except (RuntimeError, DumpError) as error:
            unknown.append(f"{setting}: {error}")
            continue
        for line in lines:
            text, document = run(line), run(f"{line} --json")
            if document != usual[line]:
                wrong[f"{setting}: {line} --json"] = document
            if text.startswith("error: ") or not text.strip() or "Exception" in text:
                wrong[f"{setting}: {line}"] = text
        change(name, "little" if name == "endian" else before)  # automatic, it stays what it was
    return {"usual": usual, "wrong": wrong, "unknown": unknown}


def test_all_commands_under_all_settings(in_gdb: Callable[..., Any], dump: LabDump) -> None:
    found = in_gdb(try_out, commands(dump), SETTINGS, vmcore=dump.vmcore)
    assert len(found["usual"]) == len(commands(dump)) and all(map(json.loads, found["usual"].values()))
    assert {setting.partition(":")[0] for setting in found["unknown"]} <= NEW, found["unknown"]
    wrong = {place: text for place, text in found["wrong"].items() if not may_differ(place)}
    assert not wrong, wrong


def may_differ(place: str) -> bool:
    setting, _, line = place.partition(": ")
    return line.endswith(" --json") and (setting, line.split()[0]) in MAY_DIFFER
