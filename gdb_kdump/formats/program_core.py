"""The core file of a program, told from the dump of a kernel, which is an ELF core as well."""

from __future__ import annotations

import struct

from gdb_kdump.formats.flattened import DumpFile
from gdb_kdump.formats.notes import for_each_note
from gdb_kdump.formats.signatures import ELF

_MOST_HEADERS = 64  # the notes come first
_MOST_NOTES = 1 << 20
_NOTE = 4  # PT_NOTE
_PRPSINFO, _AUXV = 3, 6  # NT_PRPSINFO, NT_AUXV
_NAME = slice(-96, -80)  # elf_prpsinfo.pr_fname[16], which pr_psargs[80] follows at the end on every machine
_FORMS = {1: ("28xI10xHH", "II8xI12x"), 2: ("32xQ14xHH", "I4xQ16xQ16x")}
"""By EI_CLASS: Elf_Ehdr's e_phoff, e_phentsize, e_phnum; Elf_Phdr's p_type, p_offset, p_filesz."""


def find_program(file: DumpFile) -> str | None:
    """The name of the program that an ELF core is of; None where it is none, or not of a program.

    The kernel writes NT_AUXV for every process, of 32 and 64 bits (fs/binfmt_elf.c: fill_note_info); no kernel's dump
    has one, and /proc/kcore has none either.
    """
    notes = _notes(file)
    if not any(name == b"CORE" and kind == _AUXV for name, kind, _ in for_each_note(notes)):
        return None
    found = (data[_NAME] for name, kind, data in for_each_note(notes) if name == b"CORE" and kind == _PRPSINFO)
    return next(found, b"").partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _notes(file: DumpFile) -> bytes:
    head = file.read(0, 64)
    if not head.startswith(ELF) or len(head) < 64 or head[4] not in _FORMS:
        return b""
    order, (header, entry) = ">" if head[5] == 2 else "<", _FORMS[head[4]]
    at, size, count = struct.unpack_from(order + header, head)
    if size != struct.calcsize(order + entry):
        return b""
    table = file.read(at, size * min(count, _MOST_HEADERS))
    segments = struct.iter_unpack(order + entry, table[: len(table) // size * size])
    return b"".join(file.read(offset, min(length, _MOST_NOTES)) for kind, offset, length in segments if kind == _NOTE)
