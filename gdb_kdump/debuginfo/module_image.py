"""A module's file in memory: the sections and symbols that the kernel has loaded, and what GDB can put in place."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from gdb_kdump.errors import DumpError

_HEADER = struct.Struct("<IIQQQQIIQQ")  # Elf64_Shdr
_SYMBOL = struct.Struct("<IBBHQQ")  # Elf64_Sym
_SHT_SYMTAB = 2
_SHF_ALLOC = 2
_LAST_KIND = 2  # STT_FUNC: NOTYPE and OBJECT come before it, SECTION and FILE after
# What the kernel takes from a file and leaves out of the module; kernel/module/main.c: rewrite_section_headers.
_NOT_KEPT = (".modinfo", "__versions", "__version_ext_crcs", "__version_ext_names", ".data..percpu")
_KEPT = (".symtab", ".strtab")  # kernel/module/kallsyms.c: layout_symtab


@dataclass(frozen=True)
class FileSection:
    """A section of the file: its name, and the alignment of its address in bytes."""

    name: str
    alignment: int


class ModuleImage:
    """A relocatable 64-bit ELF file; raises DumpError when it is damaged."""

    def __init__(self, image: bytes) -> None:
        self._image = image
        try:
            (self._table,) = struct.unpack_from("<Q", image, 0x28)
            _, count, names = struct.unpack_from("<HHH", image, 0x3A)
            self._headers = [_HEADER.unpack_from(image, self._table + _HEADER.size * n) for n in range(count)]
            self._names = [self._string(names, header[0]) for header in self._headers]
        except (struct.error, IndexError) as error:
            raise DumpError(f"the module's file is damaged ({error})") from error

    def _string(self, section: int, offset: int) -> str:
        start = self._headers[section][4] + offset
        return self._image[start : self._image.find(b"\0", start)].decode("utf-8", "backslashreplace")

    def loaded_sections(self) -> list[FileSection]:
        """The sections that the kernel has given an address, in its order; kernel/module/sysfs.c: sect_empty."""
        return [
            FileSection(name, max(header[8], 1))
            for name, header in zip(self._names, self._headers)
            if (header[2] & _SHF_ALLOC or name in _KEPT) and header[5] and name not in _NOT_KEPT
        ]

    def symbols(self) -> Iterator[tuple[str, str, int]]:
        """The (section, name, offset in it) of every symbol of code or data."""
        for header in self._headers:
            if header[1] != _SHT_SYMTAB:
                continue
            data = self._image[header[4] : header[4] + header[5]]
            for name, info, _, section, value, _ in _SYMBOL.iter_unpack(
                data[: len(data) // _SYMBOL.size * _SYMBOL.size]
            ):
                if 0 < section < len(self._headers) and info & 15 <= _LAST_KIND:
                    text = self._string(header[6], name)
                    if text:
                        yield self._names[section], text, value

    def at_zero(self) -> bytes | None:
        """The file with every section at address 0, or None where that is so already.

        Linker scripts give some sections of a module addresses, and GDB then ignores where `add-symbol-file -s` puts
        them when it relocates debug information; gdb/symfile.c: default_symfile_offsets.
        """
        if not any(header[3] for header in self._headers):
            return None
        patched = bytearray(self._image)
        for number in range(len(self._headers)):
            address_at = self._table + _HEADER.size * number + 0x10
            patched[address_at : address_at + 8] = bytes(8)
        return bytes(patched)
