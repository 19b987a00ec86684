"""A packed vmlinux: GDB needs a file that is not, so it is unpacked once, into a folder of our own."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from gdb_kdump.debuginfo import index_cache
from gdb_kdump.debuginfo.compression import unpacked, unpacking_command
from gdb_kdump.debuginfo.elf import ElfFile, open_file
from gdb_kdump.debuginfo.progress import Progress
from gdb_kdump.errors import DumpError, words_of

_MAGIC = b"\x7fELF"
_LARGEST = 1 << 33  # bytes, far above any vmlinux; a few kilobytes can be packed that fill a disk


def open_vmlinux(path: Path, progress: Progress) -> ElfFile:
    """Open an ELF file, or the copy of it that was unpacked from this one; raises DumpError."""
    with open_file(path) as file:
        command = unpacking_command(file.read(8))
    return ElfFile(path if command is None else _unpack(path, command, progress))


def _unpack(path: Path, command: str, progress: Progress) -> Path:
    """The copy in the cache, made if it is not there; raises DumpError with the command that does it by hand."""
    folder = index_cache.folder().with_name("vmlinux")
    by_hand = f"unpack it by hand (`{command} {path}`) and name what comes out of it"
    temporary = None
    try:
        if not index_cache.made_private(folder):
            raise DumpError(f"{path} is packed, and {folder} is not a folder of your own: {by_hand}")
        status, source = path.stat(), f"{zlib.crc32(os.fsencode(path.resolve())):08x}"
        copy = folder / f"{path.name}-{source}-{status.st_size}-{status.st_mtime_ns}"
        if copy.is_file():
            return copy
        for stale in folder.glob(f"*-{source}-*"):
            stale.unlink(missing_ok=True)
        progress.unpacking(path, copy, None)
        temporary = folder / f"{copy.name}.{os.getpid()}"
        with open_file(path) as packed, temporary.open("xb") as file:
            for number, piece in enumerate(unpacked(packed)):
                if not number and not piece.startswith(_MAGIC):
                    raise DumpError(f"{path} has no ELF file in it: name the vmlinux with debug information")
                if file.tell() > _LARGEST:
                    raise DumpError(f"{path} has more than {_LARGEST >> 30} GiB in it: it is no vmlinux")
                file.write(piece)
            progress.unpacking(path, copy, file.tell())
        temporary.rename(copy)
        return copy
    except DumpError as error:
        if str(path) in str(error):
            raise
        raise DumpError(f"cannot unpack {path}: {error}") from error
    except OSError as error:  # a full disk, a read-only home
        raise DumpError(f"{path} is packed, and {folder} has no room for it ({words_of(error)}): {by_hand}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
