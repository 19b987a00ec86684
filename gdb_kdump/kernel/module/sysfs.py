"""What /sys/module shows of a module: its build-id, and the addresses of its sections; kernel/module/sysfs.c."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_kdump.errors import Unreadable
from gdb_kdump.kernel.module.modules import Module
from gdb_kdump.layout.module import module_section
from gdb_kdump.session import Session

_NT_GNU_BUILD_ID = 3
_LONGEST_NOTE = 4096  # bytes
_MOST = 1024  # sections of a module


class ModuleSysfs:
    """Reads them of one session's modules."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory = session.memory
        self._layout = session.layout

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

    def sections(self, module: Module) -> list[tuple[str | None, int]]:
        """The (name, address) of a module's sections; None for a name that the dump lacks.

        kernel/module/sysfs.c: add_sect_attrs.  Raises Unreadable, MissingDebugInfo.
        """
        attrs = self._session.pointer(module.addr, "module.sect_attrs")
        size, name_offset, address_offset = module_section(self._layout)
        sections: list[tuple[str | None, int]] = []
        for at in self._elements(attrs, "module_sect_attrs", "nsections", size):
            name, addr = self._memory.ptr(at + name_offset), self._memory.ptr(at + address_offset)
            try:
                sections.append((self._memory.cstring(name, 128).decode("ascii", "replace"), addr))
            except Unreadable:
                sections.append((None, addr))
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
