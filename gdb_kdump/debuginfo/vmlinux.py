"""Find the vmlinux that belongs to a dump: the build-id decides, or the banner; names only say where to look."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gdb_kdump.debuginfo import tree
from gdb_kdump.debuginfo.compression import SUFFIXES
from gdb_kdump.debuginfo.elf import ElfFile
from gdb_kdump.debuginfo.kernel_file import KernelFile
from gdb_kdump.debuginfo.packed import open_vmlinux
from gdb_kdump.debuginfo.progress import Progress
from gdb_kdump.errors import DumpError, NoVmlinux, UsageError
from gdb_kdump.installing import how_to_get_vmlinux
from gdb_kdump.text import escape

_PIECE = 1 << 20  # bytes


@dataclass(frozen=True)
class Wanted:
    """A dump, the release and the build-id of its kernel (None where it does not say them), and where to look."""

    vmcore: Path
    release: str | None
    build_id: str | None
    roots: Sequence[Path]


def find_vmlinux(wanted: Wanted, named: Path | None, loaded: Path | None, progress: Progress) -> KernelFile:
    """Open the vmlinux of a dump: `named` by the user, else `loaded` in GDB, else in the usual places.

    Raises UsageError for a wrong or stripped file that the user named, DumpError when none is found.
    """
    if named is not None:
        elf = open_vmlinux(named, progress)
        if wanted.build_id is not None and elf.build_id != wanted.build_id:
            raise UsageError(
                f"{named} is the vmlinux of another kernel: its build-id is {elf.build_id or 'missing'}, "
                f"the dump's is {wanted.build_id}; name the vmlinux of the kernel that crashed"
            )
        kernel = _complete(elf, wanted)
        lacking = _lacking(kernel)
        if lacking:
            raise UsageError(f"{named} {lacking}")
        return kernel
    passed_over: list[str] = []
    for path in _existing(_candidates(wanted, loaded)):
        try:
            elf = open_vmlinux(path, progress)
        except DumpError as error:  # something of that name lies beside the dump: the right file may be elsewhere
            passed_over.append(str(error))
            continue
        kernel = KernelFile(elf)
        if not (_fits(kernel, wanted) or (wanted.build_id is None and path == loaded)):
            passed_over.append(f"{path} has {elf.build_id or 'none'}")
            elf.close()
            continue
        kernel = _complete(elf, wanted)
        lacking = _lacking(kernel)
        if not lacking:
            return kernel
        passed_over.append(f"{path} {lacking}")
        kernel.close()
    raise NoVmlinux(_not_found(wanted, passed_over), wanted.release, wanted.build_id)


def _not_found(wanted: Wanted, passed_over: list[str]) -> str:
    release = wanted.release
    kernel = f"kernel {release or 'of unknown release'}" + (f" (build-id {wanted.build_id})" if wanted.build_id else "")
    passed = f"; passed over: {', '.join(passed_over)}" if passed_over else ""
    return (
        f"no vmlinux with debug information found for {kernel}{passed}; install its debug package "
        f"({how_to_get_vmlinux(release)}), or name the file: target kdump {wanted.vmcore} VMLINUX, "
        f"or its folder in ${tree.SEARCH_PATH_VARIABLE}"
    )


def _fits(kernel: KernelFile, wanted: Wanted) -> bool:
    """Whether a file is that of the dump: by build-id, else by the release in its banner, which is compared later."""
    if wanted.build_id is not None:
        return kernel.build_id == wanted.build_id
    return wanted.release is not None and kernel.banner.startswith(f"Linux version {wanted.release} ".encode())


def _lacking(kernel: KernelFile) -> str:
    """What keeps GDB from using a vmlinux, after its name, and what to do; "" where nothing does."""
    remedy = "install the kernel's debug package and name its vmlinux"
    if kernel.with_debug_info is None:
        link = kernel.debuglink
        if link is not None:
            return (
                f"has no debug information (stripped), and the file that has it, {escape(link)}, is neither beside it "
                f"nor in a folder of debug information: put it there, or {remedy}"
            )
        if kernel.has_btf:
            return f"has BTF but no DWARF debug information, which GDB needs: {remedy}"
        return f"has no debug information (stripped): {remedy}"
    if not kernel.has_symbols:
        return (
            "has debug information but no symbol table, and the file that it was taken from is not beside it: "
            "put that one there and name it"
        )
    return ""


def _complete(elf: ElfFile, wanted: Wanted) -> KernelFile:
    """A file, with the one that has what it lacks, where that is found."""
    alone = KernelFile(elf)
    if _is_whole(alone, wanted):
        return alone
    for path in _existing(_places_of_the_rest(elf, wanted)):
        try:
            other = ElfFile(path)
        except DumpError:  # of that name, but no ELF file
            continue
        both = KernelFile(elf, other)
        if _is_rest_of(elf, other) and _is_whole(both, wanted):
            return both
        other.close()
    return alone


def _is_whole(kernel: KernelFile, wanted: Wanted) -> bool:
    """Whether a vmlinux has all that is needed: the banner, too, where the dump has no build-id to compare."""
    return not _lacking(kernel) and (wanted.build_id is not None or bool(kernel.banner))


def _places_of_the_rest(elf: ElfFile, wanted: Wanted) -> Iterator[Path]:
    folder = elf.path.parent
    link = elf.debuglink
    if link is not None:  # where GDB looks
        yield folder / link
        yield folder / ".debug" / link
        yield from (root / str(folder.absolute()).lstrip("/") / link for root in wanted.roots)
    yield from (folder / name for name in (f"{elf.path.name}.debug", elf.path.name.removesuffix(".debug")))
    for root in (*wanted.roots, folder):
        yield from tree.by_build_id(root, elf.build_id)
        yield from tree.vmlinux_files(root, wanted.release, None)


def _is_rest_of(elf: ElfFile, other: ElfFile) -> bool:
    """Whether two files are parts of one: by the build-id, else by the checksum in .gnu_debuglink."""
    if elf.build_id is not None or other.build_id is not None:
        return elf.build_id == other.build_id
    return elf.debuglink == other.path.name and elf.debuglink_checksum == _checksum(other.path)


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            checksum = zlib.crc32(piece, checksum)
    return checksum


def _existing(paths: Iterable[Path]) -> Iterator[Path]:
    """Those of the paths that are files, each file once."""
    known: set[str] = set()
    for path in paths:
        real = os.path.realpath(path)
        # Unlike Path's method, false for what may not be looked at.
        if real not in known and os.path.isfile(path):
            known.add(real)
            yield path


def _candidates(wanted: Wanted, loaded: Path | None) -> Iterator[Path]:
    if loaded is not None:
        yield loaded
    places = [path for root in wanted.roots for path in tree.vmlinux_files(root, wanted.release, wanted.build_id)]
    yield from places
    yield from (path.with_name(f"{path.name}{suffix}") for path in places for suffix in SUFFIXES)
