"""Where the files of a kernel may lie: every folder that is named is searched as /usr/lib/debug is.

A dump never says where to look: its release and build-id become part of a path only when they are plain names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from gdb_kdump.text import is_plain_name

SEARCH_PATH_VARIABLE = "KDUMP_VMLINUX_PATH"
# Below a folder that has a system, or the files of a package: that system's own debug information.
_SYSTEMS = ("", "usr/lib/debug")


def roots(vmcore: Path, directories: Sequence[Path]) -> list[Path]:
    """Where to look, folders or files: what the user named, the dump's folder, GDB's `directories`, the system."""
    return list(dict.fromkeys((*search_path(), vmcore.parent, *directories, Path("/usr/lib/debug"), Path("/"))))


def search_path() -> list[Path]:
    """The folders and files in $KDUMP_VMLINUX_PATH."""
    return split_path(os.environ.get(SEARCH_PATH_VARIABLE, ""))


def split_path(path: str) -> list[Path]:
    """The folders that stand in a variable or a setting, with colons between them."""
    return [Path(word).expanduser() for word in path.split(":") if word]


def in_paths(name: str | None) -> str | None:
    """A release or build-id of a dump if it may become part of a path, else None."""
    return name if name is not None and is_plain_name(name) else None


def by_build_id(root: Path, build_id: str | None) -> Iterator[Path]:
    """The files in a folder that are named by a build-id."""
    if in_paths(build_id) is None or build_id is None or len(build_id) < 3:
        return
    for system in _SYSTEMS:
        for suffix in (".debug", ""):
            yield root / system / ".build-id" / build_id[:2] / f"{build_id[2:]}{suffix}"


def vmlinux_files(root: Path, release: str | None, build_id: str | None) -> Iterator[Path]:
    """The files of a kernel that a folder may have, the likeliest first; that they exist is not sure.

    A `root` that is a file is the only one.
    """
    if os.path.isfile(root):
        yield root
        return
    yield from by_build_id(root, build_id)
    release = in_paths(release)
    names = ["vmlinux", "vmlinux.debug"]
    if release is not None:
        names = [f"vmlinux-{release}", f"vmlinux-{release}.debug", *names]
    for system in _SYSTEMS:
        folder = root / system
        if release is not None:
            yield from (folder / "boot" / name for name in names)
            for modules in _release_folders(folder, release):
                yield from (modules / name for name in ("build/vmlinux", *names))
        yield from (folder / name for name in names)


def _release_folders(folder: Path, release: str) -> Iterator[Path]:
    """The folders of a release: where a system has them, and one that was copied beside the dump."""
    yield folder / "lib/modules" / release
    yield folder / "usr/lib/modules" / release
    yield folder / release


def module_folders(root: Path, release: str | None) -> Iterator[Path]:
    """The folders that a folder may have of a release's modules, which lie anywhere below them."""
    release = in_paths(release)
    if release is not None:
        for system in _SYSTEMS:
            yield from _release_folders(root / system, release)
