"""Symbols of modules: find the file that a module was loaded from by its build-id, and give it to GDB in place.

Nothing is searched for or loaded before a frame, or the user, asks for a module.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gdb_kdump.debuginfo.elf import ElfFile, zero_section_addresses
from gdb_kdump.debuginfo.loading import add_symbol_file, in_memory
from gdb_kdump.debuginfo.symbol_file import elf_image
from gdb_kdump.debuginfo.tree import in_paths, search_path
from gdb_kdump.errors import Corrupt, DumpError, MissingDebugInfo, Unreadable, UsageError
from gdb_kdump.kernel.module.modules import Module, Modules
from gdb_kdump.layout.module import module_section
from gdb_kdump.session import Session
from gdb_kdump.text import is_plain_name

_SUFFIXES = (".ko.debug", ".ko")
_NT_GNU_BUILD_ID = 3
_LONGEST_NOTE = 4096  # bytes
_MOST = 1024  # sections of a module


@dataclass(frozen=True)
class Symbols:
    """What is known of a module's symbols: the `file` that GDB has loaded, or why there is none."""

    file: Path | None
    why_not: str = ""


class ModuleSymbols:
    """Finds and loads the symbols of one session's modules."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._layout = session.layout
        self._known: dict[int, Symbols] = {}
        self._files: dict[str, list[Path]] | None = None

    def known(self, module: Module) -> Symbols | None:
        """What load() said of a module, or None when it was not asked for."""
        return self._known.get(module.addr)

    def load(self, module: Module, file: Path | None = None) -> Symbols:
        """Load a module's symbols into GDB once, from `file` or the file with its build-id.

        Raises UsageError for a `file` that is not the module's.
        """
        if file is not None:
            self._known[module.addr] = self._load(module, self._accept(module, file))
        elif module.addr not in self._known:
            self._known[module.addr] = self._find_and_load(module)
        return self._known[module.addr]

    def _find_and_load(self, module: Module) -> Symbols:
        try:
            wanted = self.build_id(module)
        except (Unreadable, MissingDebugInfo) as error:
            return Symbols(None, str(error))
        for candidate in self._candidates(module):
            if wanted is not None and _is_file_of(candidate, wanted):
                return self._load(module, candidate)
        self._load_kallsyms(module)
        return Symbols(None, f"no file with build-id {wanted} found" if wanted else "the module has no build-id")

    def _load_kallsyms(self, module: Module) -> None:
        """Give GDB at least the names of a module's functions, which the dump itself has."""
        try:
            symbols = self._session.once(Modules).symbols_of(module)
            low, size = module.ranges[0]
            # GDB prints a symbol's name as it stands, and demangles it: none but plain ones come from a dump.
            inside = [(name, addr, 0) for name, addr in symbols if low <= addr < low + size and is_plain_name(name)]
            image = elf_image(self._session.arch.elf_machine, (low, size), inside)
            add_symbol_file(in_memory(module.name, image))
        except (DumpError, Unreadable, Corrupt, MissingDebugInfo, IndexError):
            return  # kbt and bt take the names from the dump anyway

    def _accept(self, module: Module, file: Path) -> Path:
        elf = ElfFile(file)
        elf.close()
        wanted = self.build_id(module)
        if wanted is not None and elf.build_id != wanted:
            raise UsageError(f"{file} has build-id {elf.build_id or 'none'}, module {module.name} has {wanted}")
        if not elf.has_debug_info:
            raise UsageError(f"{file} has no debug information (stripped)")
        return file

    def _load(self, module: Module, file: Path) -> Symbols:
        try:
            sections = self.sections(module)
            text = sections.pop(".text", module.base)
            add_symbol_file(self._loadable(file), text, sections)
        except (DumpError, Unreadable, MissingDebugInfo) as error:
            return Symbols(None, str(error))
        return Symbols(file)

    def _loadable(self, file: Path) -> Path:
        """The file itself, or a copy of it in memory that GDB can put in place."""
        image = zero_section_addresses(file.read_bytes())
        if image is None:
            return file
        return in_memory(file.name, image)

    def build_id(self, module: Module) -> str | None:
        """The build-id of a module in hex, from the notes that it was loaded with, or None.

        kernel/module/sysfs.c: add_notes_attrs.  Raises Unreadable, MissingDebugInfo.
        """
        notes = self._session.pointer(module.addr, "module.notes_attrs")
        if not notes:
            return None
        for attribute in self._elements(notes, "module_notes_attrs", "notes", self._layout.size("bin_attribute")):
            start = self._session.pointer(attribute, "bin_attribute.private")
            length = self._session.number(attribute, "bin_attribute.size")
            build_id = _build_id(self._memory.read(start, min(length, _LONGEST_NOTE)))
            if build_id:
                return build_id
        return None

    def sections(self, module: Module) -> dict[str, int]:
        """The addresses of a module's sections by name; kernel/module/sysfs.c: add_sect_attrs.

        Raises Unreadable, MissingDebugInfo.
        """
        attrs = self._session.pointer(module.addr, "module.sect_attrs")
        size, name_offset, address_offset = module_section(self._layout)
        sections = {}
        for at in self._elements(attrs, "module_sect_attrs", "nsections", size):
            name = self._memory.cstring(self._memory.ptr(at + name_offset), 128).decode("ascii", "replace")
            sections[name] = self._memory.ptr(at + address_offset)
        return sections

    def _elements(self, attrs: int, tag: str, counter: str, size: int) -> Iterator[int]:
        """The addresses of the elements of `attrs` in a struct of that tag; raises Unreadable, MissingDebugInfo.

        d8959b947a8d (v6.14) module: sysfs: Drop member 'module_sect_attrs::nsections', and that of notes: what is left
        is a list of pointers to them that ends in NULL.
        """
        if self._layout.find_member(f"{tag}.{counter}") is not None:
            first = attrs + self._layout.offset(f"{tag}.attrs")
            yield from (first + size * n for n in range(min(self._session.number(attrs, f"{tag}.{counter}"), _MOST)))
            return
        pointers = self._session.pointer(attrs, f"{tag}.grp.bin_attrs")
        for number in range(_MOST if pointers else 0):
            element = self._memory.ptr(pointers + 8 * number)
            if not element:
                return
            yield element

    def _candidates(self, module: Module) -> list[Path]:
        if self._files is None:
            self._files = {}
            release = in_paths(self._session.vmcoreinfo.get("OSRELEASE")) or ""
            beside = self._session.vmcore.parent
            folders = [
                folder / release for folder in (beside, Path("/usr/lib/debug/lib/modules"), Path("/lib/modules"))
            ]
            for folder in (*search_path(), beside, *(folders if release else ())):
                self._note_files(folder, folder in folders)
        return self._files.get(module.name.replace("-", "_"), [])

    def _note_files(self, folder: Path, deep: bool) -> None:
        assert self._files is not None
        for place, below, names in os.walk(folder):
            if not deep:
                below.clear()
            for name in names:
                suffix = next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), None)
                if suffix:
                    # The kernel writes _ where a file name may have -.
                    module = name.removesuffix(suffix).replace("-", "_")
                    self._files.setdefault(module, []).append(Path(place) / name)


def _is_file_of(file: Path, build_id: str) -> bool:
    """Whether a file has that build-id and debug information."""
    try:
        elf = ElfFile(file)
    except DumpError:  # a file of another kind with the name of a module
        return False
    elf.close()
    return elf.build_id == build_id and elf.has_debug_info


def _build_id(note: bytes) -> str | None:
    """The build-id in a series of ELF notes, or None."""
    at = 0
    while at + 12 <= len(note):
        name_size, size, note_type = (int.from_bytes(note[at + 4 * i : at + 4 * i + 4], "little") for i in range(3))
        name_at, data_at = at + 12, at + 12 + (name_size + 3 & ~3)
        if note_type == _NT_GNU_BUILD_ID and note[name_at : name_at + name_size] == b"GNU\0":
            return note[data_at : data_at + size].hex()
        at = data_at + (size + 3 & ~3)
    return None
