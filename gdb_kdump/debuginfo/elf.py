"""One ELF file: its build-id, whether it has debug information, and the addresses of its symbols.

GDB expands whole compile units to look a symbol up, and all of them to find that one is absent (0.5 s and more):
the ELF symbol table answers both within milliseconds.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

from gdb_kdump.debuginfo.compression import compression, section_contents, section_size
from gdb_kdump.errors import DumpError, words_of
from gdb_kdump.formats.boot_image import LONGEST, is_boot_image

# What is raised for wild numbers: by pyelftools, and by what reads and decodes with them.
_DAMAGE = (ELFError, ConstructError, OSError, ValueError, TypeError, OverflowError, MemoryError)

VMLINUX = "name the vmlinux with debug information"  # what to do when a file is none

_SHF_ALLOC, _SHF_EXECINSTR, _SHF_COMPRESSED = 2, 4, 0x800
_LONGEST_HEADER = 24  # of a compressed section
_SHN_ABS = 0xFFF1
_MACHINE_AT = 18  # Elf64_Ehdr.e_machine
_STT_FUNC = 2  # NOTYPE and OBJECT come before it, SECTION and FILE after
# What compilers add to the name of a static that they made global, or a variant of: LLVM's LTO, GCC's.
_VARIANT = re.compile(rb"(\.(llvm|lto_priv|isra|constprop)\.\d+|\.lto_priv)+\0")
_SYMBOL_SIZE = 24  # Elf64_Sym: name u32, info u8, other u8, shndx u16, value u64, size u64


@dataclass(frozen=True)
class ElfSymbol:
    """One symbol: its link-time value, size in bytes, and whether KASLR moves it."""

    value: int
    size: int
    relocated: bool


def open_file(path: Path, remedy: str = VMLINUX) -> BinaryIO:
    """Open a file that somebody named; raises DumpError with what to do."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # opening a fifo would wait for a writer
            raise DumpError(f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'not a file'}: {remedy}")
        file = path.open("rb")
        file.peek(1)  # some files of /proc can be opened, but not read
        return file
    except DumpError:
        raise
    except OSError as error:
        raise DumpError(f"cannot read {path}: {words_of(error)}") from error


class ElfFile:
    """One ELF file, read as far as it is asked for; raises DumpError when it is no ELF file."""

    def __init__(self, path: Path, remedy: str = VMLINUX) -> None:
        """`remedy` is what to do when the file is of no use."""
        self.path = path
        self._file = open_file(path, remedy)
        try:
            self._elf = ELFFile(self._file)
        except (ELFError, ConstructError, OSError, ValueError) as error:  # it seeks to wherever the header says
            self._file.seek(0)
            is_bootable = is_boot_image(self._file.read(LONGEST))
            self._file.close()
            what = "a boot image, which has no debug information" if is_bootable else "not an ELF file"
            raise DumpError(f"{path} is {what}: {remedy}") from error
        with self._reading():
            self._sections: dict[str, Any] = {section.name: section for section in self._elf.iter_sections()}
            self.build_id = self._read_build_id()
        """The build-id in hex, or None."""

    def close(self) -> None:
        """Close the file: its build-id and whether it has debug information stay known, its symbols do not."""
        self._file.close()
        self.__dict__.pop("_symbols", None)
        self.__dict__.pop("_values", None)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except DumpError:
            raise
        except _DAMAGE as error:
            self._file.close()
            raise DumpError(f"{self.path} is damaged ({error}): copy it again, or name another file") from error

    def _read_build_id(self) -> str | None:
        for section in self._sections.values():
            if section["sh_type"] != "SHT_NOTE":
                continue
            for note in section.iter_notes():
                if note["n_type"] == "NT_GNU_BUILD_ID" and note["n_name"] == "GNU":
                    return str(note["n_desc"])
        return None

    @property
    def machine(self) -> int:
        """e_machine: the number of the machine that the file is for."""
        self._file.seek(_MACHINE_AT)
        return int.from_bytes(self._file.read(2), "little" if self._elf.little_endian else "big")

    @property
    def has_debug_info(self) -> bool:
        """Whether the file itself has DWARF."""
        return self._find(".debug_info") is not None

    @property
    def has_symbols(self) -> bool:
        """Whether the file itself has a symbol table, with the names of local symbols."""
        return self._find(".symtab") is not None

    @property
    def has_btf(self) -> bool:
        """Whether the file has BTF, the kernel's own form of types, which GDB does not read."""
        return self._find(".BTF") is not None

    @property
    def debuglink(self) -> str | None:
        """The name of the file that has the debug information of this one, or None; bfd/opncls.c: .gnu_debuglink."""
        name = self.section(".gnu_debuglink").partition(b"\0")[0].decode("utf-8", "surrogateescape")
        return name if name and "/" not in name else None

    @property
    def debuglink_checksum(self) -> int:
        """The CRC-32 of that file."""
        return int.from_bytes(self.section(".gnu_debuglink")[-4:], "little")

    def _find(self, name: str) -> Any | None:
        """The section of that name, compressed or not, if the file has its contents: one of NOBITS has it not."""
        for known in (name, f".zdebug{name[6:]}") if name.startswith(".debug") else (name,):
            section = self._sections.get(known)
            if section is not None and section["sh_type"] != "SHT_NOBITS":
                return section
        return None

    def _raw(self, section: Any, size: int) -> bytes:
        self._file.seek(section["sh_offset"])
        return self._file.read(min(size, section["sh_size"]))

    def section(self, name: str) -> bytes:
        """The contents of a section, decompressed; empty where the file has none."""
        section = self._find(name)
        return b"" if section is None else self._contents(section)

    @property
    def compressions(self) -> list[str]:
        """How the sections with debug information are compressed, by name; nothing where they are not."""
        kinds = set()
        for section in self._sections.values():
            if section["sh_flags"] & _SHF_COMPRESSED and section["sh_type"] != "SHT_NOBITS":
                with self._reading():
                    kinds.add(compression(self._raw(section, _LONGEST_HEADER)))
            elif section.name.startswith(".zdebug"):
                kinds.add("zlib")
        return sorted(kinds)

    def _contents(self, section: Any) -> bytes:
        has_header = bool(section["sh_flags"] & _SHF_COMPRESSED)
        with self._reading():
            data = self._raw(section, section["sh_size"])
            if not has_header and not section.name.startswith(".zdebug"):
                return data
            try:
                return section_contents(data, has_header)
            except DumpError as error:
                raise DumpError(f"cannot read {self.path}: {error}") from error

    def debug_sizes(self) -> list[tuple[str, int]]:
        """The names of the sections with debug information and their sizes in bytes, however they are compressed."""
        sizes = []
        for name, section in self._sections.items():
            if name.startswith((".debug", ".zdebug")) and section["sh_type"] != "SHT_NOBITS":
                is_compressed = bool(section["sh_flags"] & _SHF_COMPRESSED)
                with self._reading():
                    header = self._raw(section, _LONGEST_HEADER)
                size = section_size(header, is_compressed, name.startswith(".z"), section["sh_size"])
                sizes.append((name.replace(".zdebug", ".debug"), size))
        return sizes

    def image(self) -> tuple[int, int]:
        """The lowest link-time address of code, and the one after all that is in memory; both 0 without any code."""
        in_memory = [section for section in self._sections.values() if section["sh_flags"] & _SHF_ALLOC]
        starts = [section["sh_addr"] for section in in_memory if section["sh_flags"] & _SHF_EXECINSTR]
        if not starts:
            return 0, 0
        return min(starts), max(section["sh_addr"] + section["sh_size"] for section in in_memory)

    def code(self) -> list[tuple[int, int]]:
        """The link-time addresses of code: those of each section, from, to before."""
        flags = _SHF_ALLOC | _SHF_EXECINSTR
        code = [section for section in self._sections.values() if section["sh_flags"] & flags == flags]
        return sorted((section["sh_addr"], section["sh_addr"] + section["sh_size"]) for section in code)

    def read(self, addr: int, size: int) -> bytes:
        """The file's bytes at a link-time address, as many as its section has; empty where no section is there."""
        for section in self._sections.values():
            start = section["sh_addr"]
            if start and start <= addr < start + section["sh_size"] and section["sh_type"] != "SHT_NOBITS":
                with self._reading():
                    self._file.seek(section["sh_offset"] + addr - start)
                    return self._file.read(min(size, start + section["sh_size"] - addr))
        return b""

    @cached_property
    def _symbols(self) -> tuple[bytes, bytes, dict[int, int]]:
        """The symbol table, its names, and which entry has its name at which offset."""
        table = self._find(".symtab")
        if table is None:
            return b"", b"", {}
        data = self._contents(table)
        with self._reading():
            offsets = memoryview(data).cast("I")[:: _SYMBOL_SIZE // 4].tolist()
            names = self._contents(self._elf.get_section(table["sh_link"]))
        return data, names, dict(zip(offsets, range(len(offsets))))

    @property
    def symbol_table(self) -> tuple[bytes, bytes]:
        """The table of symbols and that of their names, empty where the file has none."""
        return self._symbols[:2]

    def loaded_sections(self) -> list[tuple[int, int, bool]]:
        """Of each section that is in memory its number, its link-time address, and whether it has code."""
        with self._reading():
            return [
                (number, section["sh_addr"], bool(section["sh_flags"] & _SHF_EXECINSTR))
                for number, section in enumerate(self._elf.iter_sections())
                if section["sh_flags"] & _SHF_ALLOC
            ]

    def find_symbol(self, name: str) -> ElfSymbol | None:
        """The symbol of that name, or of a variant of it where there is none (`name.isra.0`); or None."""
        entry = self._find_entry(name.encode() + b"\0", None)
        if entry is None:
            entry = self._find_entry(name.encode() + b".", _VARIANT)
        if entry is None:
            return None
        return self._symbol(self._symbols[0][entry * _SYMBOL_SIZE : (entry + 1) * _SYMBOL_SIZE])

    def _find_entry(self, wanted: bytes, variant: re.Pattern[bytes] | None) -> int | None:
        """The number of the symbol whose name begins with `wanted` and goes on like that, or None."""
        _, names, entries = self._symbols
        name_at = names.find(wanted)
        while name_at >= 0:
            # The linker shares the tails of names: this hit may be the end of a longer one that no symbol starts in.
            entry = entries.get(name_at)
            if entry is not None and (variant is None or variant.match(names, name_at + len(wanted) - 1)):
                return entry
            name_at = names.find(wanted, name_at + 1)
        return None

    @cached_property
    def _values(self) -> list[int]:
        return memoryview(self._symbols[0]).cast("Q")[1 :: _SYMBOL_SIZE // 8].tolist()

    def symbol_before(self, addr: int) -> tuple[str, int] | None:
        """The symbol of code at or below a link-time address, and its address; kernel/kallsyms.c: get_symbol_pos.

        Labels count, too: that is how the kernel itself names the parts of its entry code.
        """
        (table, names, _), values = self._symbols, self._values
        value = max(filter(addr.__ge__, values), default=-1)
        entry = -1
        for _ in range(values.count(value)):
            entry = values.index(value, entry + 1)
            start = int.from_bytes(table[entry * _SYMBOL_SIZE : entry * _SYMBOL_SIZE + 4], "little")
            name = names[start : names.find(b"\0", start)].decode("utf-8", "backslashreplace")
            is_code = table[entry * _SYMBOL_SIZE + 4] & 15 <= _STT_FUNC
            if is_code and name and not name.startswith((".L", "__pfx_")):
                return without_llvm(name), values[entry]
        return None

    def _symbol(self, entry: bytes) -> ElfSymbol:
        section = int.from_bytes(entry[6:8], "little")
        value = int.from_bytes(entry[8:16], "little")
        return ElfSymbol(value, int.from_bytes(entry[16:24], "little"), self._is_relocated(section))

    def _is_relocated(self, section: int) -> bool:
        """Absolute symbols stay, and so do per-CPU ones where their section is linked at 0 (x86-64 before v6.15)."""
        if section == _SHN_ABS:
            return False
        return section == 0 or section >= self._elf.num_sections() or self._elf.get_section(section)["sh_addr"] != 0


def without_llvm(symbol: str) -> str:
    """A symbol's name as the kernel itself prints it; kernel/kallsyms.c: cleanup_symbol_name."""
    return symbol.partition(".llvm.")[0]
