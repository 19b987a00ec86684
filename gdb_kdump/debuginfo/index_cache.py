"""GDB's index of a vmlinux, kept in a folder of our own: the first start takes 10-20 s, every other one less than 1 s.

A separate gdb process makes the index, so that Ctrl-C works meanwhile and a crash of the indexer is not the user's.
GDB 13.1 crashes on a damaged index, and on one of other DWARF: what a file beside each index says of it and of its
vmlinux is compared before GDB may see it.  Another file says which GDB made it: an older one does not understand it and
would make its own again, at every start and without a word.
"""

from __future__ import annotations

import os
import stat
import subprocess
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from gdb_kdump.debuginfo.elf import ElfFile
from gdb_kdump.errors import DumpError

# A checksum file is written by us, last; an index without it was interrupted or is not ours.
_CHECKSUM = ".crc32"
_REFUSED = 1  # the exit status of a GDB that cannot read the file that it was given
_SUFFIXES = (".gdb-index", ".debug_names", ".debug_str")


def folder() -> Path:
    """The folder of the index cache, which need not exist."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path("~/.cache").expanduser()) / "gdb-kdump" / "index"


def prepare(vmlinux: ElfFile, progress: Callable[[float], None]) -> Path | None:
    """Make sure that a sound index of the debug information in `vmlinux` is in the cache; None where there can be none.

    A folder that others can write to is not used: an index that was planted there takes over the GDB that reads it.
    Raises DumpError when GDB cannot read `vmlinux`.

    `progress` is called about four times a second with the seconds passed, while the index is being made.
    """
    cache, build_id = folder(), vmlinux.build_id
    if build_id is None:
        return None  # GDB names its index files after the build-id
    try:
        if not made_private(cache):
            return None
        described = _described(vmlinux)
        if _is_sound(cache, build_id, described):
            return cache
        for stale in cache.glob(f"{build_id}*"):
            stale.unlink(missing_ok=True)
        if not _make(vmlinux.path, cache, progress):
            raise cannot_be_read(vmlinux)
        _seal(cache, build_id, described)
        return cache if _is_sound(cache, build_id, described) else None
    except DumpError:
        raise
    except OSError:
        return None  # a read-only home, a full disk, another GDB that is making it, too: slower, but nothing is lost


def cannot_be_read(vmlinux: ElfFile) -> DumpError:
    """What to say where GDB refuses a vmlinux as a whole, though it is an ELF file."""
    compressions = vmlinux.compressions
    if not compressions:
        return DumpError(f"GDB cannot read {vmlinux.path}: it is damaged, or this GDB is too old for it")
    return DumpError(
        f"GDB cannot read {vmlinux.path}: its debug information is compressed by {' and '.join(compressions)}, which "
        f"this GDB does not know; decompress it with `objcopy --decompress-debug-sections {vmlinux.path} vmlinux`, "
        "and name what comes out of it"
    )


def _make(vmlinux: Path, cache: Path, progress: Callable[[float], None]) -> bool:
    """Have a GDB write its index; whether it could read the file."""
    command = [
        os.readlink("/proc/self/exe"), "-nx", "-batch",
        "-iex", f"set index-cache directory {cache}",
        "-iex", "set index-cache enabled on",
        "-iex", "set auto-load off",
        "-iex", "set debuginfod enabled off",
        str(vmlinux),
    ]  # fmt: skip
    started = time.monotonic()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as indexer:
        try:
            while indexer.poll() is None:
                progress(time.monotonic() - started)
                time.sleep(0.25)
        except BaseException:  # Ctrl-C included: the indexer must not outlive our interest in it
            indexer.kill()
            raise
    return indexer.returncode != _REFUSED


def made_private(directory: Path) -> bool:
    """Make a folder in the one of all our caches, of the user's own; whether both are that.  Raises OSError."""
    for folder in (directory.parent, directory):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(folder):
            return False
    return True


def _is_private(directory: Path) -> bool:
    """Whether a folder, and not a link to one, is the user's own; what others could put there is thrown away."""
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        return False
    if status.st_mode & 0o022:
        directory.chmod(0o700)
        for path in directory.iterdir():
            if not path.is_dir():
                path.unlink()
    return True


def _indexes(cache: Path, build_id: str) -> list[Path]:
    # Under another name at the end, GDB is still writing it: this one, or another that starts just now.
    return [path for path in cache.glob(f"{build_id}*") if path.suffix in _SUFFIXES]


def _described(vmlinux: ElfFile) -> str:
    """What tells one file's debug information from other: another may have its build-id and other DWARF.

    It is the same for a copy that was compressed, or stripped of anything else.
    """
    return f"{zlib.crc32(repr(sorted(vmlinux.debug_sizes())).encode()):08x}"


def _checksum(index: Path, described: str) -> str:
    """What tells that an index is whole, and of the vmlinux that was `described`."""
    return f"{zlib.crc32(index.read_bytes()):08x} {index.stat().st_size} of {described}\n"


def _maker(cache: Path, build_id: str) -> tuple[Path, str]:
    """The file that tells which GDB made an index, and what it says of this one."""
    executable = os.stat("/proc/self/exe")
    return cache / f"gdb-of-{build_id}", f"{executable.st_size} {executable.st_mtime_ns}\n"


def _seal(cache: Path, build_id: str, described: str) -> None:
    maker, this = _maker(cache, build_id)
    maker.write_text(this)
    for index in _indexes(cache, build_id):
        note = Path(f"{index}{_CHECKSUM}")
        note.with_suffix(".tmp").write_text(_checksum(index, described))
        note.with_suffix(".tmp").rename(note)


def _is_sound(cache: Path, build_id: str, described: str) -> bool:
    indexes = _indexes(cache, build_id)
    notes = [Path(f"{index}{_CHECKSUM}") for index in indexes]
    maker, this = _maker(cache, build_id)
    if not indexes or not maker.is_file() or maker.read_bytes() != this.encode():
        return False
    return all(
        note.is_file() and note.read_bytes() == _checksum(index, described).encode()
        for index, note in zip(indexes, notes)
    )
