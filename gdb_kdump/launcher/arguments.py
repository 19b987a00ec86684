"""The command line of gdb-kdump."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_EPILOG = """VMLINUX is found by the dump's build-id where it is not named, else asked of the debuginfod servers in
$DEBUGINFOD_URLS, if you say so. Without VMCORE it is the newest dump below /var/crash; a folder stands for the newest
one below it. $GDB names the GDB to use.

Exit status: 0 nothing is corrupt, 1 an error, 2 corrupt, 3 could not be decided, since what matters is not in the dump;
of several commands the worst, 1 before 2 before 3."""


@dataclass(frozen=True)
class Arguments:
    """What was asked for."""

    files: list[str] = field(default_factory=list)  # VMCORE..., VMLINUX
    hints: list[str] = field(default_factory=list)  # options of `target kdump`
    steps: list[tuple[str, str]] = field(default_factory=list)  # in order: ("run", a command), ("file", its path)
    json: bool = False
    batch: bool = False
    yes: bool = False
    debuginfod: bool = False
    version: bool = False
    report: str | None = None  # the folder that a report goes to

    @property
    def prompt(self) -> bool:
        """Whether GDB's prompt comes at the end."""
        return not (self.batch or self.json or self.report is not None or any(kind == "run" for kind, _ in self.steps))


def parse(words: Sequence[str]) -> Arguments:
    """The arguments; ends the process for --help (0) and for what is none (1: 2 is for what is corrupt)."""
    given = _parser().parse_args(words)
    hints = [word for option in ("kaslr", "vmcoreinfo", "hole") if getattr(given, option) is not None
             for word in (f"--{option}", getattr(given, option))]  # fmt: skip
    steps = given.steps or []
    if given.json and given.report is None and not any(kind == "run" for kind, _ in steps):
        steps = [*steps, ("run", "ktriage")]
    return Arguments(
        given.files, hints, steps, given.json, given.batch, given.yes, given.debuginfod, given.version, given.report
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        self.exit(1, f"{self.prog}: {message}; {self.prog} --help tells more\n")


class _Step(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        kind = "run" if option == "--run" else "file"
        namespace.steps = [*(namespace.steps or []), (kind, values)]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="gdb-kdump",
        usage="gdb-kdump [OPTION...] [VMCORE [VMLINUX]]",
        description="Open a Linux kernel dump in GDB: what happened, on one screen, and GDB's prompt.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("files", nargs="*", metavar="VMCORE", help="the dump, the vmlinux; all files of a dump that was split")
    add("--run", action=_Step, dest="steps", metavar="COMMAND", help="run a command, then end; may be repeated")
    add("-x", action=_Step, dest="steps", metavar="FILE", help="run the GDB commands in a file; may be repeated")
    add("--json", action="store_true", help="print each --run's JSON document as a line, and nothing else (of ktriage)")
    add("--batch", action="store_true", help="end after the first screen, or after -x, without a prompt")
    add("--report", metavar="DIR", help="write the report of kreport to a folder, then end")
    add("--yes", action="store_true", help="take the newest dump without asking")
    add("--debuginfod", action="store_true", help="take a missing vmlinux from debuginfod without asking")
    add("--kaslr", metavar="OFFSET", help="the KASLR offset of a dump that does not say it")
    add("--vmcoreinfo", metavar="FILE", help="the VMCOREINFO of a dump that has none")
    add("--hole", metavar="START-END", help="the hole in physical memory that a raw file of it leaves out")
    add("--version", action="store_true", help="print the versions of gdb-kdump, GDB, its Python and libkdumpfile")
    return parser
