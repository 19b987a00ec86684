"""Symbol files as GDB has them: the vmlinux, files in memory, and the modules of an earlier dump that must go."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Optional

import gdb

from gdb_kdump.debuginfo import index_cache
from gdb_kdump.debuginfo.elf import ElfFile
from gdb_kdump.errors import DumpError
from gdb_kdump.text import is_plain_name

# Told a vmlinux, and the seconds that its index has taken so far, or None when there can be no index.
Progress = Callable[[Path, Optional[float]], None]

_SECTION = re.compile(r"[\w.]+")  # a name that can be a word of a GDB command

# The files in memory that GDB may have symbols of: name and descriptor.  GDB has one list of symbol files.
_descriptors: dict[str, int] = {}


def loaded_file() -> Path | None:
    """The main symbol file that GDB has, or None."""
    progspace = gdb.current_progspace()
    return Path(progspace.filename) if progspace and progspace.filename else None


def load_symbols(elf: ElfFile, kaslr_offset: int, machine: str, progress: Progress) -> None:
    """Have GDB read a vmlinux at its KASLR offset (bytes), and no other symbols, with the index that we keep of it.

    `machine` is what GDB calls the machine.
    """
    if _dismiss_others() and _loaded_at(elf) == kaslr_offset:
        return
    cache = index_cache.prepare(elf.path, elf.build_id, lambda seconds: progress(elf.path, seconds))
    gdb.execute(f"set architecture {machine}", to_string=True)
    command = f"symbol-file -o {kaslr_offset:#x} {quoted(elf.path)}"
    with gdb.with_parameter("confirm", False):
        if cache is None:
            progress(elf.path, None)
            gdb.execute(command, to_string=True)
            return
        with gdb.with_parameter("index-cache directory", str(cache)), gdb.with_parameter("index-cache enabled", True):
            gdb.execute(command, to_string=True)


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
                with gdb.with_parameter("confirm", False):
                    gdb.execute(f'remove-symbol-file "{objfile.username}"', to_string=True)
            except gdb.error:
                return False
    return True


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
