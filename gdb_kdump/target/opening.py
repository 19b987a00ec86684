"""Opening a dump: its server, its vmlinux, and where the kernel lies in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import gdb

from gdb_kdump.arch.architecture import Architecture, by_name
from gdb_kdump.channel.client import Server
from gdb_kdump.debuginfo import tree
from gdb_kdump.debuginfo.debuginfo import DebugInfo
from gdb_kdump.debuginfo.kernel_file import KernelFile
from gdb_kdump.debuginfo.loading import debug_file_directories, load_symbols, loaded_file
from gdb_kdump.debuginfo.progress import Progress
from gdb_kdump.debuginfo.vmlinux import Wanted, find_vmlinux
from gdb_kdump.errors import DumpError, Unreadable, UsageError, words_of
from gdb_kdump.formats.vmcoreinfo import parse_vmcoreinfo
from gdb_kdump.memory import Memory
from gdb_kdump.records.dump_info import DumpInfo
from gdb_kdump.session import Session
from gdb_kdump.target.connection import change_while_open, close, elsewhere, is_selected, put_back
from gdb_kdump.target.whereabouts import Claim, locate_kernel

_MOST_VMCOREINFO = 1 << 16


@dataclass(frozen=True)
class Hints:
    """What the user knows and the dump does not say: the KASLR offset in bytes, a file with the VMCOREINFO."""

    kaslr_offset: int | None = None
    vmcoreinfo: Path | None = None
    hole: tuple[int, int] | None = None
    """Between which physical addresses a file of raw memory has none."""


def open_dump(vmcores: Sequence[Path], vmlinux: Path | None, progress: Progress, hints: Hints) -> Session:
    """Start the server, load the vmlinux at the dump's KASLR offset; no GDB target yet: see connection.connect().

    `vmcores` are the files of one dump; `progress` is told while the user has to wait for the symbols.
    Raises DumpError, UsageError; whatever was open before is closed first.
    """
    _refuse_foreign_process()
    close()
    vmcore = vmcores[0]
    server = Server.start(*map(str, vmcores), memory=_memory(hints.hole) if vmlinux is not None else "")
    try:
        dump = server.info()
        text = _vmcoreinfo_file(hints.vmcoreinfo) if hints.vmcoreinfo else dump.vmcoreinfo or ""
        vmcoreinfo = parse_vmcoreinfo(text)
        build_id = vmcoreinfo.get("BUILD-ID")
        release, roots = dump.release or vmcoreinfo.get("OSRELEASE"), tree.roots(vmcore, debug_file_directories())
        wanted = Wanted(vmcore, release, build_id, roots)
        elf, refusal = _find_vmlinux(wanted, vmlinux, progress)
        arch = _architecture(dump, elf)
        claim = Claim(vmcoreinfo, text if hints.vmcoreinfo else None, refusal is not None)
        try:
            found = locate_kernel(server, elf, arch, claim, hints.kaslr_offset)
        except (DumpError, UsageError) as error:
            raise refusal or error from None
        kaslr_offset, memory = found.kaslr_offset, Memory(server)
        change_while_open("architecture", arch.registers.gdb_name)
        load_symbols(elf, kaslr_offset, progress)
        debuginfo = DebugInfo(elf, kaslr_offset, arch)
        if dump.report.pages_missing:
            # Page tables may be missing too: the direct map can be read without them, if one knows where it starts.
            try:
                server.set_direct_map(arch.direct_map(debuginfo.find_address, memory.u64, memory.why))
            except Unreadable:  # that is missing as well
                server.look_for_direct_map()
    except BaseException:  # Ctrl-C too: no half-open dump is left
        server.close()
        put_back()
        raise
    return Session(
        vmcore,
        elf.path,
        elf.build_id,
        kaslr_offset,
        dump,
        found.vmcoreinfo,
        server,
        memory,
        debuginfo,
        arch,
        found.note,
    )


def _memory(hole: tuple[int, int] | None) -> str:
    """How the server is told that a file may be raw memory: that it is needs the vmlinux, whose banner is in it."""
    return "raw" if hole is None else f"raw {hole[0]} {hole[1]}"


def _architecture(dump: DumpInfo, elf: KernelFile) -> Architecture:
    """The machine of a dump and its vmlinux; raises UsageError where they have not the same."""
    arch = by_name(dump.machine)
    assert arch is not None, "the dump server reads no other"
    if elf.machine != arch.elf_machine:
        raise UsageError(
            f"{elf.path} is of another machine than the dump, which is of {arch.name}: name the vmlinux of the kernel "
            "that crashed"
        )
    return arch


def _vmcoreinfo_file(path: Path) -> str:
    """The text in a file that holds a VMCOREINFO; raises UsageError."""
    try:
        if path.exists() and not path.is_file():  # a pipe may never end
            raise UsageError(f"{path} is not a file: name one with the VMCOREINFO")
        with path.open("rb") as file:
            text = file.read(_MOST_VMCOREINFO).decode(errors="backslashreplace")
    except (OSError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"cannot read the VMCOREINFO {path}: {words_of(error)}") from error
    if not parse_vmcoreinfo(text).get("OSRELEASE"):
        raise UsageError(f"{path} is no VMCOREINFO: it has no line OSRELEASE=...")
    return text


def _find_vmlinux(wanted: Wanted, vmlinux: Path | None, progress: Progress) -> tuple[KernelFile, UsageError | None]:
    """The vmlinux; and where the user named one of another build-id than VMCOREINFO has, what there is to say of it.

    That VMCOREINFO may be of an earlier kernel, or of a host.
    """
    try:
        return find_vmlinux(wanted, vmlinux, loaded_file(), progress), None
    except UsageError as refusal:
        if vmlinux is None or wanted.build_id is None:
            raise
        return find_vmlinux(replace(wanted, build_id=None), vmlinux, None, progress), refusal


def _refuse_foreign_process() -> None:
    """Raise UsageError where the dump would take the place of what GDB debugs, or be the second one of this GDB."""
    inferior, other = gdb.selected_inferior(), elsewhere()
    if other is not None:
        raise UsageError(
            f"inferior {other} has a dump, and one GDB can have one: `inferior {other}` and open the other there, "
            "which closes the first, or start another GDB"
        )
    if inferior.pid and not is_selected():
        raise UsageError(f"GDB is debugging process {inferior.pid}; `kill` or `detach` it first, or use `add-inferior`")
