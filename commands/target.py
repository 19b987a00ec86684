"""target kdump: open a dump and make it GDB's target."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import gdb

from gdb_kdump.commands.base import show_notices, told
from gdb_kdump.commands.kinfo import partial_summary, summary
from gdb_kdump.commands.show import terminal
from gdb_kdump.debuginfo import index_cache
from gdb_kdump.debuginfo.gdb_settings import for_commands
from gdb_kdump.errors import DumpError, KdumpError, MissingDebugInfo, Unreadable, UsageError
from gdb_kdump.formats.signatures import looks_like_dump, looks_like_program
from gdb_kdump.kernel.mm.left_out import LeftOut
from gdb_kdump.kernel.module.source import Source
from gdb_kdump.kernel.sched.cpus import Running
from gdb_kdump.kernel.sched.registers import Registers
from gdb_kdump.kernel.sched.tasks import Tasks
from gdb_kdump.kernel.system import read_system
from gdb_kdump.records.threads import SavedFrame, Thread
from gdb_kdump.session import Session
from gdb_kdump.target.connection import connect, put_back
from gdb_kdump.target.opening import Hints, open_dump
from gdb_kdump.target.threads import all_threads, thread_id
from gdb_kdump.text import escape
from gdb_kdump.walks import Gaps

_USAGE = "target kdump [--kaslr OFFSET] [--vmcoreinfo FILE] [--hole START-END] VMCORE... [VMLINUX]"


class TargetKdump(gdb.Command):
    """Open a Linux kernel dump (kdump, ELF vmcore) as the target.
    Usage: target kdump VMCORE [VMLINUX]
           target kdump [--kaslr OFFSET] [--vmcoreinfo FILE] [--hole START-END] VMCORE... [VMLINUX]

    VMLINUX is found by the dump's build-id when it is not named: the file loaded in GDB, the folders of
    $KDUMP_VMLINUX_PATH, the dump's own, those of `debug-file-directory` and of the system.  It may be in two files,
    or packed.  Nothing can be written and nothing runs: `kill`, `disconnect` or another `target kdump` end it.

    Several VMCOREs are the files of one dump that `makedumpfile --split` wrote.  For a dump that does not say where
    its kernel is: --vmcoreinfo names a file with its VMCOREINFO, --kaslr gives the KASLR offset, as in 0x1c000000;
    without both the kernel is looked for, by its vmlinux.

    VMCORE may be a machine's memory as it is (LiME; with VMLINUX named also raw: QEMU's pmemsave, a .vmem, a snapshot
    of Firecracker or cloud-hypervisor).  A raw file has none of the hole below 4 GiB where devices are: the usual ones
    are tried, --hole 0xc0000000-0x100000000 names another."""

    def __init__(self) -> None:
        super().__init__("target kdump", gdb.COMMAND_FILES, gdb.COMPLETE_FILENAME)

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Open the dump; raises gdb.GdbError with one sentence."""
        self.dont_repeat()
        try:
            with for_commands():
                open_words(gdb.string_to_argv(argument))
        except KdumpError as error:
            raise gdb.GdbError(escape(f"target kdump: {error}")) from None
        finally:
            show_notices()


def open_words(words: list[str], quietly: bool = False) -> None:
    """Open the dump that the words of the command line name; raises KdumpError.

    Unless `quietly`, a summary and the selected frame are shown; warnings are in any case.
    """
    hints, files = _parse(words)
    vmcores, vmlinux = _sort(files)
    progress = _Progress(gdb.STDERR if quietly else gdb.STDOUT)
    opened = open_dump(vmcores, vmlinux, progress, hints)
    with ExitStack() as undo:  # whatever fails, Ctrl-C too
        undo.callback(put_back)
        undo.callback(opened.close)
        progress.end()
        try:
            opening = _with_tasks(opened)
        except (Unreadable, MissingDebugInfo) as error:
            opening = _without_tasks(opened, error)
        # Connecting prints the selected frame, as a core file's opening does: the summary belongs above it.
        if not quietly:
            gdb.write("\n".join(opening.summary) + "\n")
        _warn([*filter(None, [opened.note]), *opening.warnings])
        with _silence() if quietly else nullcontext():
            notes = connect(opened, opening.threads, opening.selected, opening.frame)
        _warn(notes)
        undo.pop_all()


@contextmanager
def _silence() -> Iterator[None]:
    """Keep GDB from showing the frame in which the dump has stopped: it is deaf to `to_string` there."""
    gdb.flush()
    stdout, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    try:
        yield
    finally:
        gdb.flush()
        os.dup2(stdout, 1)
        os.close(stdout)


def _warn(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        gdb.write(escape(f"warning: {sentence}") + "\n", gdb.STDERR)


@dataclass(frozen=True)
class _Opening:
    """What is shown of a dump that is being opened, and what GDB is given: its threads, and the one to select."""

    summary: list[str]
    warnings: list[str]
    threads: list[Thread]
    selected: int
    frame: SavedFrame | None


def _with_tasks(opened: Session) -> _Opening:
    """Every task a thread, the panic task selected; raises Unreadable where the kernel's own data is missing."""
    system = read_system(opened)
    warnings: list[str] = []
    frame = _saved_frame(opened, warnings)
    threads, selected = all_threads(opened, frame is not None), thread_id(system.panic_task)
    lines = list(summary(opened, system))
    # GDB shows where the panic task stopped as soon as it is connected: have the names of its module by then.
    stopped = next((thread for thread in threads if thread.id == selected), threads[0])
    if isinstance(stopped.registers, dict) and opened.arch.pc in stopped.registers:
        opened.once(Source).load_symbols(stopped.registers[opened.arch.pc])
    tasks = Gaps()
    opened.once(Tasks).all(tasks)
    notice = opened.once(LeftOut).take_notice()
    warnings += [notice] if notice else []
    warnings += [f"there may be more tasks: {problem}" for problem in told(opened, tasks)]
    warnings += opened.once(Running).gaps
    return _Opening(lines, warnings, *_startable(threads, selected, opened.arch.pc, warnings), frame)


def _startable(threads: list[Thread], selected: int, pc: str, warnings: list[str]) -> tuple[list[Thread], int]:
    """The threads, and one to select that has a pc, without which GDB does not connect; best the one wanted.

    `pc` is GDB's name of the program counter.
    """
    if not any(thread.id == selected for thread in threads):
        selected = threads[0].id
    wanted = next(thread for thread in threads if thread.id == selected)
    if not isinstance(wanted.registers, dict) or pc in wanted.registers:
        return threads, selected
    with_pc = [thread for thread in threads if isinstance(thread.registers, dict) and pc in thread.registers]
    if with_pc:
        warnings.append(f"thread {selected} ({wanted.name}) has no registers in the dump, so another one is selected")
        return threads, with_pc[0].id
    warnings.append("the dump has no registers of a running task: the pc that GDB shows is none")
    known = [replace(thread, registers={pc: 0}) if thread is wanted else thread for thread in threads]
    return known, selected


def _saved_frame(opened: Session, warnings: list[str]) -> SavedFrame | None:
    """Where sleeping tasks have their registers; None where that is not known, with a sentence in `warnings`."""
    try:
        return opened.once(Registers).saved_frame()
    except MissingDebugInfo as error:
        warnings.append(f"the registers of sleeping tasks are not known: {error}")
        return None


def _without_tasks(opened: Session, error: Unreadable | MissingDebugInfo) -> _Opening:
    """Every CPU a thread, where the dump or the types have lost what leads to the tasks: the rest can still be read."""
    report = opened.dump.report
    if isinstance(error, Unreadable) and not report.pages_missing:
        raise DumpError(
            f"{opened.vmcore} cannot be opened: it lacks the kernel's own data ({error}); {_remedy(opened)}"
        ) from error
    registers = opened.dump.registers or [{}]
    threads = [Thread(cpu + 1, f"CPU {cpu}", cpu, known) for cpu, known in enumerate(registers)]
    warning = (
        f"what leads to the kernel's tasks is missing ({error}), so the threads are the CPUs, with the dump's notes of "
        "their registers; what else the dump has can be read by address"
    )
    warning += f"; {report.remedy}" if report.remedy else ""
    warnings = [warning]
    return _Opening(list(partial_summary(opened)), warnings, *_startable(threads, 1, opened.arch.pc, warnings), None)


def _remedy(opened: Session) -> str:
    """What to do about a whole dump that lacks what every kernel has."""
    if opened.vmcoreinfo.get("BUILD-ID"):
        return "dump the next one with a lower dump level (makedumpfile -d), or with less left out"
    release = opened.dump.release or opened.vmcoreinfo.get("OSRELEASE")
    return f"name the vmlinux of its kernel{f' ({release})' if release else ''}, unless {opened.vmlinux} is that"


def _parse(words: list[str]) -> tuple[Hints, list[Path]]:
    """The options and the files of the command line; raises UsageError."""
    given: dict[str, str] = {}
    rest = list(words)
    while rest and rest[0].startswith("--"):
        option, equals, value = rest.pop(0).partition("=")
        if option == "--":
            break
        if option not in ("--kaslr", "--vmcoreinfo", "--hole"):
            raise UsageError(f"{option} is no option of it: {_USAGE}")
        if not equals and not rest:
            raise UsageError(f"{option} needs a value: {_USAGE}")
        given[option] = value if equals else rest.pop(0)
    if not rest:
        raise UsageError(f"name the dump: {_USAGE}")
    try:
        offset = int(given["--kaslr"], 0) if "--kaslr" in given else None
    except ValueError:
        raise UsageError(f"--kaslr wants the offset in bytes, as in 0x1c000000, not {given['--kaslr']}") from None
    vmcoreinfo = _path(given["--vmcoreinfo"]) if "--vmcoreinfo" in given else None
    hole = _hole(given["--hole"]) if "--hole" in given else None
    return Hints(offset, vmcoreinfo, hole), [_path(word) for word in rest]


def _hole(text: str) -> tuple[int, int]:
    try:
        start, end = (int(word, 0) for word in text.split("-"))
    except ValueError:
        raise UsageError(f"--hole wants two physical addresses, as in 0xc0000000-0x100000000, not {text}") from None
    return start, end


def _sort(files: list[Path]) -> tuple[list[Path], Path | None]:
    """The files of the dump, and the vmlinux: the only one that is no dump, or the only program, else the last one."""
    others = [path for path in files if not looks_like_dump(path)]
    if len(files) == 1 or not others:
        return files, None
    programs = [path for path in others if looks_like_program(path)]
    vmlinux = (others if len(others) == 1 else programs if len(programs) == 1 else files)[-1]
    vmcores = [path for path in files if path != vmlinux]
    return (vmcores, vmlinux) if vmcores else (files[:1], vmlinux)


def _path(word: str) -> Path:
    return Path(word).expanduser().absolute()


class _Progress:
    """Tells that a vmlinux is being unpacked, or GDB's index of it made: a line, and dots on a terminal."""

    def __init__(self, stream: int) -> None:
        """`stream` is gdb.STDOUT, or gdb.STDERR where stdout is for what commands print."""
        self._told = False
        self._stream = stream

    def _say(self, text: str) -> None:
        gdb.write(text, self._stream)
        gdb.flush(self._stream)

    def unpacking(self, packed: Path, copy: Path, size: int | None) -> None:
        self._say(f"Unpacking {packed}, once ...\n" if size is None else f"{size / 1e6:.0f} MB in {copy.parent}\n")

    def indexing(self, vmlinux: Path, seconds: float | None) -> None:
        if seconds is None:
            self._say(
                f"Reading {vmlinux}: 10 to 20 s, because no index of it can be kept: it has no build-id, or "
                f"{index_cache.folder()} is not a folder of your own\n"
            )
        elif not self._told:
            self._say(f"Indexing {vmlinux}: 10 to 20 s this once, then kept for every later start ...")
            self._told = True
        elif terminal.is_terminal():
            self._say(".")

    def end(self) -> None:
        if self._told:
            self._say("\n")
