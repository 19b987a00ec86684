"""The file that a module was loaded from: the build-id decides, names only say where to look."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from gdb_kdump.debuginfo import tree
from gdb_kdump.debuginfo.compression import unpacked, unpacking_command
from gdb_kdump.debuginfo.elf import ElfFile, open_file
from gdb_kdump.debuginfo.loading import debug_file_directories, in_memory
from gdb_kdump.debuginfo.module_image import ModuleImage
from gdb_kdump.errors import DumpError, words_of
from gdb_kdump.session import Session

_NAME = re.compile(r"(?P<module>.+?)\.ko(?P<debug>(-.+)?\.debug)?(?P<packed>\.(?:xz|gz|zst|bz2))?")
_REMEDY = "name the module's file with debug information (.ko, .ko.debug)"
_LARGEST = 1 << 31  # bytes, far above any module's file
STRIPPED = "has no debug information (stripped): install the debug package of its kernel, or name another file"


@dataclass(frozen=True)
class ModuleFile:
    """A file as it was found, and as GDB can read it: itself, or what was packed in it, in memory."""

    path: Path
    readable: Path
    build_id: str | None
    has_debug_info: bool

    def image(self) -> ModuleImage:
        """What is in the file; raises DumpError."""
        try:
            return ModuleImage(self.readable.read_bytes())
        except OSError as error:
            raise DumpError(f"cannot read {self.path}: {words_of(error)}") from error


class ModuleFiles:
    """Finds the files of one session's modules; no folder is looked through before one is asked for."""

    def __init__(self, session: Session) -> None:
        self._roots = tree.roots(session.vmcore, debug_file_directories())
        self._release = session.dump.release or session.vmcoreinfo.get("OSRELEASE")
        self._named: dict[str, list[Path]] | None = None

    def open(self, path: Path) -> ModuleFile:
        """A file that is named, unpacked if need be; raises DumpError."""
        with open_file(path, _REMEDY) as file:
            is_packed = unpacking_command(file.read(8)) is not None
            file.seek(0)
            readable = in_memory(path.name, _unpacked(path, file)) if is_packed else path
        try:
            elf = ElfFile(readable, _REMEDY)
        except DumpError as error:
            raise DumpError(str(error).replace(str(readable), str(path))) from error
        elf.close()
        return ModuleFile(path, readable, elf.build_id, elf.has_debug_info)

    def find(self, module: str, build_id: str) -> ModuleFile:
        """The file of a module with that build-id and with debug information; raises DumpError where there is none."""
        stripped = None
        for file in chain(self._by_build_id(build_id), self.of_name(module)):
            if file.build_id == build_id:
                if file.has_debug_info:
                    return file
                stripped = stripped or file
        if stripped is not None:
            raise DumpError(f"{stripped.path} {STRIPPED}")
        raise DumpError(f"no file with build-id {build_id} found")

    def of_name(self, module: str) -> Iterator[ModuleFile]:
        """The files that have a module's name; one with debug information alone comes first, packed ones last."""
        if self._named is None:
            self._named = {}
            self._note_files(self._named)
        return self._opened(self._named.get(_kernel_name(module), []))

    def _by_build_id(self, build_id: str) -> Iterator[ModuleFile]:
        for root in self._roots:
            yield from self._opened(path for path in tree.by_build_id(root, build_id) if os.path.isfile(path))

    def _opened(self, paths: Iterable[Path]) -> Iterator[ModuleFile]:
        for path in paths:
            with suppress(DumpError):  # a file of another kind with the name of a module
                yield self.open(path)

    def _note_files(self, named: dict[str, list[Path]]) -> None:
        known: set[str] = set()
        paths = []
        for root in self._roots:
            for folder in tree.module_folders(root, self._release):
                paths += list(_module_files(folder, known, deep=True))
            paths += list(_module_files(root, known, deep=False))
        matches = [(path, match) for path in paths if (match := _NAME.fullmatch(path.name)) is not None]
        matches.sort(key=lambda found: (found[1]["packed"] is not None, found[1]["debug"] is None))
        for path, match in matches:
            named.setdefault(_kernel_name(match["module"]), []).append(path)


def _unpacked(path: Path, file: BinaryIO) -> bytes:
    image = bytearray()
    try:
        for piece in unpacked(file):
            image += piece
            if len(image) > _LARGEST:
                raise DumpError(f"it has more than {_LARGEST >> 30} GiB in it")
    except DumpError as error:
        raise DumpError(f"cannot unpack {path}: {error}") from error
    return bytes(image)


def _module_files(folder: Path, known: set[str], deep: bool) -> Iterator[Path]:
    """The files in a folder, and with `deep` below it; none of those that are `known`."""
    for place, below, names in os.walk(folder):
        real = os.path.realpath(place)
        if real in known:
            below.clear()
            continue
        if deep:
            known.add(real)
        else:
            below.clear()
        yield from (Path(place) / name for name in names)


def _kernel_name(name: str) -> str:
    """The kernel writes _ where a file name may have -."""
    return name.replace("-", "_")
