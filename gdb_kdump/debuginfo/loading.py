"""Symbol files as GDB has them: the vmlinux, files in memory, and the modules of an earlier dump that must go."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import gdb

from gdb_kdump.debuginfo import index_cache
from gdb_kdump.debuginfo.elf import ElfFile
from gdb_kdump.debuginfo.kernel_file import KernelFile
from gdb_kdump.debuginfo.progress import Progress
from gdb_kdump.debuginfo.tree import split_path
from gdb_kdump.errors import DumpError, words_of
from gdb_kdump.text import is_plain_name

_SECTION = re.compile(r"[\w.]+")  # a name that can be a word of a GDB command

# The files in memory that GDB may have symbols of: name and descriptor.  GDB has one list of symbol files.
_descriptors: dict[str, int] = {}


def loaded_file() -> Path | None:
    """The main symbol file that GDB has, or None."""
    progspace = gdb.current_progspace()
    return Path(progspace.filename) if progspace and progspace.filename else None


def debug_file_directories() -> list[Path]:
    """The folders in GDB's setting of that name."""
    return split_path(str(gdb.parameter("debug-file-directory") or ""))


def load_symbols(kernel: KernelFile, kaslr_offset: int, progress: Progress) -> None:
    """Have GDB read a vmlinux at its KASLR offset (bytes), and no other symbols, with the index that we keep of it.

    Raises DumpError when GDB cannot read its debug information.
    """
    symbols, debug = kernel.for_gdb
    if _dismiss_others() and symbols is debug and _loaded_at(debug) == kaslr_offset:
        return
    cache = index_cache.prepare(debug, lambda seconds: progress.indexing(debug.path, seconds))
    if cache is None:
        progress.indexing(debug.path, None)
        _read(symbols, debug, kaslr_offset)
        return
    with gdb.with_parameter("index-cache directory", str(cache)), gdb.with_parameter("index-cache enabled", True):
        _read(symbols, debug, kaslr_offset)


def _read(symbols: ElfFile, debug: ElfFile, kaslr_offset: int) -> None:
    try:
        with gdb.with_parameter("confirm", False):
            gdb.execute(f"symbol-file -o {kaslr_offset:#x} {quoted(symbols.path)}", to_string=True)
            # GDB may have found the other file by itself, by the build-id or .gnu_debuglink.
            if symbols is not debug and not any(objfile.owner is not None for objfile in gdb.objfiles()):
                gdb.execute(f"add-symbol-file -o {kaslr_offset:#x} {quoted(debug.path)}", to_string=True)
    except gdb.error as error:
        if debug.compressions:
            raise index_cache.cannot_be_read(debug) from error
        raise DumpError(f"GDB cannot read {debug.path}: {words_of(error)}") from error  # or a user's hook says it


def _loaded_at(elf: ElfFile) -> int | None:
    """The offset at which GDB has this file already, or None."""
    loaded, symbol = loaded_file(), elf.find_symbol("_stext")
    if loaded is None or symbol is None or loaded.resolve() != elf.path.resolve():
        return None
    try:
        return int(gdb.parse_and_eval("(unsigned long)&_stext")) - symbol.value
    except gdb.error:
        return None


def quoted(path: Path) -> str:
    """A file's name as a word of a GDB command."""
    return '"' + re.sub(r'(["\\])', r"\\\1", str(path)) + '"'


def add_symbol_file(path: Path, text: int | None = None, sections: Mapping[str, int] | None = None) -> None:
    """Give GDB the symbols of one more file, whose sections lie at these addresses; .text at `text`.

    Raises DumpError with GDB's words.
    """
    others = "".join(f" -s {name} {addr:#x}" for name, addr in (sections or {}).items() if _SECTION.fullmatch(name))
    where = f" {text:#x}{others}" if text is not None else ""
    try:
        with gdb.with_parameter("confirm", False):
            gdb.execute(f"add-symbol-file {quoted(path)}{where}", to_string=True)
    except gdb.error as error:
        raise DumpError(str(error)) from error


def _dismiss_others() -> bool:
    """Have GDB drop every symbol file but the main one: those of an earlier dump; whether it did."""
    progspace = gdb.current_progspace()
    main = progspace.filename if progspace else None
    for objfile in gdb.objfiles():
        if objfile.username != main and objfile.owner is None:
            try:
                remove_symbol_file(Path(str(objfile.username)))
            except DumpError:
                return False
    return True


def remove_symbol_file(path: Path) -> None:
    """Have GDB drop the symbols of a file; raises DumpError with GDB's words."""
    try:
        with gdb.with_parameter("confirm", False):
            gdb.execute(f"remove-symbol-file {quoted(path)}", to_string=True)
    except gdb.error as error:
        raise DumpError(str(error)) from error


def in_memory(name: str, image: bytes) -> Path:
    """A file that is on no disk, for GDB to read its symbols from.

    It stays open on purpose: GDB comes back to a file as long as it has its symbols.
    """
    known = {objfile.username for objfile in gdb.objfiles()}
    for path in [path for path in _descriptors if path not in known]:
        os.close(_descriptors.pop(path))
    descriptor = os.memfd_create(f"gdb-kdump-{name if is_plain_name(name) else 'module'}", os.MFD_CLOEXEC)
    os.write(descriptor, image)
    path = f"/proc/self/fd/{descriptor}"
    _descriptors[path] = descriptor
    return Path(path)
