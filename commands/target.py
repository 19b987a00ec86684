"""target kdump: open a dump and make it GDB's target."""

from __future__ import annotations

import sys
from pathlib import Path

import gdb

from gdb_kdump import indexcache, session
from gdb_kdump.commands.kinfo import summary
from gdb_kdump.errors import DumpError, KdumpError, Unreadable, UsageError
from gdb_kdump.kernel.registers import Registers
from gdb_kdump.kernel.source import Source
from gdb_kdump.kernel.system import read_system
from gdb_kdump.kernel.tasks import Tasks
from gdb_kdump.kernel.threads import all_threads, thread_id
from gdb_kdump.text import escape


class TargetKdump(gdb.Command):
    """Open a Linux kernel dump (kdump, ELF vmcore) as the target.
    Usage: target kdump VMCORE [VMLINUX]

    VMLINUX is found by the dump's build-id when it is not named: the file loaded in GDB, $KDUMP_VMLINUX_PATH,
    the dump's folder, /usr/lib/debug, /lib/modules.  Nothing can be written and nothing runs: `kill`, `disconnect`
    or another `target kdump` end it."""

    def __init__(self) -> None:
        super().__init__("target kdump", gdb.COMMAND_FILES, gdb.COMPLETE_FILENAME)

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Open the dump; raises gdb.GdbError with one sentence."""
        self.dont_repeat()
        try:
            _open(gdb.string_to_argv(argument))
        except KdumpError as error:
            raise gdb.GdbError(escape(f"target kdump: {error}")) from None


def _open(words: list[str]) -> None:
    if not 1 <= len(words) <= 2:
        raise UsageError("name the dump: target kdump VMCORE [VMLINUX]")
    vmcore, *rest = (Path(word).expanduser().absolute() for word in words)
    progress = _Progress()
    opened = session.open_dump(vmcore, rest[0] if rest else None, progress.show)
    progress.end()
    try:
        system = read_system(opened)
        threads = all_threads(opened)
        lines = list(summary(opened, system))
        frame = opened.once(Registers).saved_frame()
        # GDB shows where the panic task stopped as soon as it is connected: have the names of its module by then.
        stopped = next((thread for thread in threads if thread.id == thread_id(system.panic_task)), threads[0])
        if isinstance(stopped.registers, dict) and "rip" in stopped.registers:
            opened.once(Source).load_symbols(stopped.registers["rip"])
    except Unreadable as error:
        opened.server.close()
        missing = opened.dump["preflight"]["sentence"]
        reason = f"{missing}; copy it again from where it was made" if missing else "it lacks the kernel's own data"
        raise DumpError(f"{vmcore} cannot be opened: {reason} ({error})") from error
    except BaseException:  # Ctrl-C too: nobody else could close what nobody holds
        opened.server.close()
        raise
    # Connecting prints the selected frame, as a core file's opening does: the summary belongs above it.
    gdb.write("\n".join(lines) + "\n")
    for problem in opened.once(Tasks).all().problems:
        gdb.write(escape(f"warning: there may be more tasks: {problem}") + "\n", gdb.STDERR)
    session.connect(opened, threads, thread_id(system.panic_task), frame)


class _Progress:
    """Tells that GDB's index of a vmlinux is being made: one line, and dots on a terminal."""

    def __init__(self) -> None:
        self._told = False

    def show(self, vmlinux: Path, seconds: float | None) -> None:
        if seconds is None:
            gdb.write(
                f"Reading {vmlinux}: 10 to 20 s, because no index of it can be kept in {indexcache.folder()}, "
                "which must be a folder of your own\n"
            )
            gdb.flush()
        elif not self._told:
            gdb.write(f"Indexing {vmlinux}: 10 to 20 s this once, then kept for every later start ...")
            self._told = True
        elif sys.stdout.isatty():
            gdb.write(".")
        gdb.flush()

    def end(self) -> None:
        if self._told:
            gdb.write("\n")
