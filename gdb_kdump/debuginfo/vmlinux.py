"""Find the vmlinux that belongs to a dump: the build-id decides, or the banner; names only say where to look."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from gdb_kdump.debuginfo.elf import ElfFile
from gdb_kdump.errors import DumpError, Unreadable, UsageError
from gdb_kdump.memory import Memory
from gdb_kdump.text import escape, is_plain_name

SEARCH_PATH_VARIABLE = "KDUMP_VMLINUX_PATH"


def find_vmlinux(
    vmcore: Path, release: str | None, build_id: str | None, named: Path | None, loaded: Path | None
) -> ElfFile:
    """Open the vmlinux of a dump: `named` by the user, else `loaded` in GDB, else the usual places.

    `build_id` is the dump's, None where it has none.  Raises UsageError for a wrong or stripped file that the user
    named, DumpError when none is found.
    """
    if named is not None:
        return _accept(ElfFile(named), build_id)
    wrong: list[str] = []
    for path in _candidates(vmcore, release, build_id, loaded):
        # Unlike Path's method, false for what may not be looked at.
        if not os.path.isfile(path):
            continue
        try:
            elf = ElfFile(path)
        except DumpError as error:  # something of that name lies beside the dump: the right file may be elsewhere
            wrong.append(str(error))
            continue
        if _fits(elf, release, build_id) or (build_id is None and path == loaded):
            return _accept(elf, build_id)
        wrong.append(f"{path} has {elf.build_id or 'none'}")
        elf.close()
    kernel = f"kernel {release or 'of unknown release'}" + (f" (build-id {build_id})" if build_id else "")
    passed = f"; passed over: {', '.join(wrong)}" if wrong else ""
    raise DumpError(
        f"no vmlinux with debug information found for {kernel}{passed}; install its debug package "
        f"(Debian: linux-image-{release or 'RELEASE'}-dbg), or name the file: target kdump {vmcore} VMLINUX, "
        f"or its folder in ${SEARCH_PATH_VARIABLE}"
    )


def _fits(elf: ElfFile, release: str | None, build_id: str | None) -> bool:
    """Whether a file is that of the dump: by build-id, else by the release in its banner, which is compared later."""
    if build_id is not None:
        return elf.build_id == build_id
    return release is not None and elf.banner.startswith(f"Linux version {release} ".encode())


def _accept(elf: ElfFile, build_id: str | None) -> ElfFile:
    if build_id is not None and elf.build_id != build_id:
        raise UsageError(
            f"{elf.path} is the vmlinux of another kernel: its build-id is {elf.build_id or 'missing'}, "
            f"the dump's is {build_id}; name the vmlinux of the kernel that crashed"
        )
    if not elf.has_debug_info:
        raise UsageError(
            f"{elf.path} has no debug information (stripped): install the kernel's debug package and name its vmlinux"
        )
    return elf


def in_paths(name: str | None) -> str | None:
    """A release or build-id of a dump if it may become part of a path, else None: a dump must not say where to look."""
    return name if name is not None and is_plain_name(name) else None


def check_banner(elf: ElfFile, memory: Memory, kaslr_offset: int) -> None:
    """Raise UsageError when the dump has another kernel's banner where `elf` has its own; init/version.c: linux_banner.

    For a dump whose kernel noted no build-id: 0935288c6e00 (v5.9) kdump: append kernel build-id string to VMCOREINFO.
    A dump that lacks the page, or that has nothing there, tells nothing.
    """
    symbol = elf.find_symbol("linux_banner")
    expected = elf.banner
    if symbol is None or not expected:
        return
    try:
        banner = memory.cstring(symbol.value + (kaslr_offset if symbol.relocated else 0), len(expected) + 256)
    except Unreadable:
        return
    if banner and banner != expected:
        text = escape(banner.decode("utf-8", "replace").strip()) if banner.startswith(b"Linux version ") else "none"
        raise UsageError(
            f"{elf.path} is the vmlinux of another kernel: its banner is {escape(expected.strip())!r}, the dump has "
            f"{text!r} there; name the vmlinux of the kernel that crashed"
        )


def _candidates(vmcore: Path, release: str | None, build_id: str | None, loaded: Path | None) -> Iterator[Path]:
    release, build_id = in_paths(release), in_paths(build_id)
    if loaded is not None:
        yield loaded
    if build_id:
        yield Path(f"/usr/lib/debug/.build-id/{build_id[:2]}/{build_id[2:]}.debug")
    names = ["vmlinux"] if release is None else [f"vmlinux-{release}", f"vmlinux-{release}.debug", "vmlinux"]
    for folder in (*search_path(), vmcore.parent):
        if os.path.isfile(folder):
            yield folder
        else:
            yield from (folder / name for name in names)
    if release is None:
        return
    yield Path(f"/usr/lib/debug/boot/vmlinux-{release}")
    yield Path(f"/usr/lib/debug/lib/modules/{release}/vmlinux")
    yield Path(f"/lib/modules/{release}/build/vmlinux")
    yield Path(f"/lib/modules/{release}/vmlinux")
    yield Path(f"/boot/vmlinux-{release}")
    yield Path(f"/usr/lib/debug/boot/vmlinux-{release}.debug")


def search_path() -> Sequence[Path]:
    """The folders and files in $KDUMP_VMLINUX_PATH."""
    return [Path(item).expanduser() for item in os.environ.get(SEARCH_PATH_VARIABLE, "").split(":") if item]
