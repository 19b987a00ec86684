"""Symbols of modules: the file that a module was loaded from, given to GDB in place.

Nothing is searched for or loaded before a frame, or the user, asks for a module.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gdb_kdump.debuginfo.loading import add_symbol_file, in_memory, remove_symbol_file
from gdb_kdump.debuginfo.symbol_file import elf_image
from gdb_kdump.errors import Corrupt, DumpError, MissingDebugInfo, Unreadable, UsageError
from gdb_kdump.kernel.module.files import STRIPPED, ModuleFile, ModuleFiles
from gdb_kdump.kernel.module.modules import Module, Modules
from gdb_kdump.kernel.module.placing import by_symbols, place
from gdb_kdump.kernel.module.sysfs import ModuleSysfs
from gdb_kdump.session import Session
from gdb_kdump.text import is_plain_name
from gdb_kdump.walks import Gaps


@dataclass(frozen=True)
class Symbols:
    """What is known of a module's symbols: the `file` that GDB has loaded, or why there is none.

    `how` says how the file was placed, where the dump itself does not tell.
    """

    file: Path | None
    why_not: str = ""
    how: str = ""


class ModuleSymbols:
    """Finds and loads the symbols of one session's modules."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._files = ModuleFiles(session)
        self._sysfs = session.once(ModuleSysfs)
        self._known: dict[int, Symbols] = {}
        self._named: dict[int, Path | None] = {}  # the files of names alone that GDB has, by module

    def known(self, module: Module) -> Symbols | None:
        """What load() said of a module, or None when it was not asked for."""
        return self._known.get(module.addr)

    def name_all(self) -> None:
        """Give GDB the names of the functions of every module whose symbols it has not."""
        for module in self._session.once(Modules).all(Gaps()):
            if module.addr not in self._known and module.addr not in self._named:
                self._load_kallsyms(module)

    def load(self, module: Module, file: Path | None = None) -> Symbols:
        """Load a module's symbols into GDB once, from `file` or the file with its build-id.

        Raises UsageError for a `file` that is not the module's, DumpError for one that cannot be read.
        """
        if file is not None:
            self._known[module.addr] = self._load(module, self._accept(module, file))
            self._forget_names(module)
        elif module.addr not in self._known:
            self._known[module.addr] = self._find_and_load(module)
        return self._known[module.addr]

    def _find_and_load(self, module: Module) -> Symbols:
        try:
            symbols = self._load(module, self._find(module))
        except DumpError as error:
            if module.addr not in self._named:
                self._load_kallsyms(module)
            return Symbols(None, str(error))
        self._forget_names(module)
        return symbols

    def _forget_names(self, module: Module) -> None:
        """Have GDB drop the names alone, now that it has more."""
        path = self._named.pop(module.addr, None)
        if path is not None:
            remove_symbol_file(path)

    def _find(self, module: Module) -> ModuleFile:
        try:
            wanted = self._sysfs.build_id(module)
        except (Unreadable, MissingDebugInfo) as error:
            for file in self._files.of_name(module.name):
                if file.has_debug_info and self._has_symbols_of(module, file):
                    return file
            raise DumpError(f"{error}, which has its build-id, and no file of its name has its symbols") from error
        if wanted is None:
            raise DumpError("the module has no build-id")
        return self._files.find(module.name, wanted)

    def _has_symbols_of(self, module: Module, file: ModuleFile) -> bool:
        try:
            by_symbols(self._session, module, file.image())
        except DumpError:
            return False
        return True

    def _load_kallsyms(self, module: Module) -> None:
        """Give GDB at least the names of a module's functions, which the dump itself has."""
        self._named[module.addr] = None
        try:
            symbols = self._session.once(Modules).symbols_of(module)
            low, size = module.ranges[0]
            # GDB prints a symbol's name as it stands, and demangles it: none but plain ones come from a dump.
            inside = [(name, addr, 0) for name, addr in symbols if low <= addr < low + size and is_plain_name(name)]
            image = elf_image(self._session.arch.elf_machine, (low, size), inside)
            path = in_memory(module.name, image)
            add_symbol_file(path)
            self._named[module.addr] = path
        except (DumpError, Unreadable, Corrupt, MissingDebugInfo, IndexError):
            return  # kbt and bt take the names from the dump anyway

    def _accept(self, module: Module, path: Path) -> ModuleFile:
        file = self._files.open(path)
        try:
            wanted = self._sysfs.build_id(module)
        except (Unreadable, MissingDebugInfo):  # its symbols must tell, then
            by_symbols(self._session, module, file.image())
            wanted = None
        if wanted is not None and file.build_id != wanted:
            raise UsageError(f"{path} has build-id {file.build_id or 'none'}, module {module.name} has {wanted}")
        if not file.has_debug_info:
            raise UsageError(f"{path} {STRIPPED}")
        return file

    def _load(self, module: Module, file: ModuleFile) -> Symbols:
        image = file.image()
        placed = place(self._session, module, image)
        sections = dict(placed.sections)
        text = sections.pop(".text", module.base)
        at_zero = image.at_zero()
        readable = file.readable if at_zero is None else in_memory(file.path.name, at_zero)
        add_symbol_file(readable, text, sections)
        return Symbols(file.path, how=placed.how)
