"""Opening a dump: its server, its vmlinux, and where the kernel lies in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gdb

from gdb_kdump.arch.architecture import Architecture, by_name
from gdb_kdump.channel.client import Server
from gdb_kdump.debuginfo import tree
from gdb_kdump.debuginfo.debuginfo import DebugInfo
from gdb_kdump.debuginfo.kernel_file import KernelFile
from gdb_kdump.debuginfo.loading import debug_file_directories, load_symbols, loaded_file
from gdb_kdump.debuginfo.progress import Progress
from gdb_kdump.debuginfo.vmlinux import Wanted, check_banner, find_vmlinux
from gdb_kdump.errors import Unreadable, UsageError
from gdb_kdump.formats.vmcoreinfo import KNOWN_SYMBOLS, offset_of, parse_vmcoreinfo
from gdb_kdump.memory import Memory
from gdb_kdump.records.dump_info import DumpInfo
from gdb_kdump.session import Session
from gdb_kdump.target.connection import change_while_open, close, elsewhere, is_selected, put_back

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
        elf = find_vmlinux(wanted, vmlinux, loaded_file(), progress)
        arch = _architecture(dump, elf)
        given = text if hints.vmcoreinfo else None
        kaslr_offset = _locate_kernel(server, elf, arch, vmcoreinfo, given, hints.kaslr_offset)
        memory = Memory(server)
        if build_id is None:
            check_banner(elf, memory, kaslr_offset)
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
    return Session(vmcore, elf.path, elf.build_id, kaslr_offset, dump, vmcoreinfo, server, memory, debuginfo, arch)


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
        text = path.read_bytes()[:_MOST_VMCOREINFO].decode(errors="backslashreplace")
    except OSError as error:
        raise UsageError(f"cannot read the VMCOREINFO {path}: {error.strerror}") from error
    if not parse_vmcoreinfo(text).get("OSRELEASE"):
        raise UsageError(f"{path} is no VMCOREINFO: it has no line OSRELEASE=...")
    return text


def _locate_kernel(
    server: Server,
    elf: KernelFile,
    arch: Architecture,
    vmcoreinfo: dict[str, str],
    given: str | None,
    asked: int | None,
) -> int:
    """Have the server translate the kernel's addresses; the KASLR offset.

    `given` is the text of a VMCOREINFO that is not the dump's own, `asked` the KASLR offset that the user gave.
    """
    translates = server.use_vmcoreinfo(given) if given is not None else server.info().translates
    if translates:
        told = offset_of(vmcoreinfo, {name: found.value for name in KNOWN_SYMBOLS if (found := elf.find_symbol(name))})
        if asked not in (None, told) and told is not None:
            raise UsageError(
                f"VMCOREINFO has the kernel at the KASLR offset {told:#x}, not at {asked:#x}: omit --kaslr"
            )
        return asked or told or 0
    wanted = (*arch.located_by, "max_pfn")
    symbols = {name: symbol.value for name in wanted if (symbol := elf.find_symbol(name))}
    if not arch.can_locate(symbols):
        needed = ", ".join(arch.needed_to_locate)
        raise UsageError(f"{elf.path} has no symbols to find the kernel by ({needed}): name another")
    return server.find_kernel(elf.banner, symbols, asked)


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
