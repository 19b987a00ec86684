"""Where a kernel's types have each member, by its logical name `STRUCT.MEMBER`.

table.py lists, newest first, the dotted paths under which kernels have had it; Layout asks the debug information which
of them exists.  A name without a row stands for itself.  Nothing here knows a release number.

A difference between kernels has one of three places:
- a name that moved is a row in table.py;
- a question that a type answers is a function in net.py, mm.py, sched.py or module.py;
- a form, two shapes of a thing, is a class in the file of its subject, chosen when its reader is made.

Types are taken as gdb.Type objects but only through their own methods, so this file needs no gdb.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gdb_kdump.errors import MissingDebugInfo
from gdb_kdump.layout.members import Member, find_number, find_path, is_struct
from gdb_kdump.layout.table import ELEMENTS, MEMBERS, STRUCTS
from gdb_kdump.layout.unpacker import Unpacker

POINTER_SIZE = 8


class Layout:
    """The table applied to one kernel's types; remembers which row won.

    `find_type` maps a type's name ("struct sk_buff") to a gdb.Type, or to None where it is absent.
    """

    def __init__(self, find_type: Callable[[str], Any]) -> None:
        self.find_type = find_type
        self._members: dict[str, Member | None] = {}
        self.chosen: dict[str, str] = {}

    def find_struct(self, tag: str) -> Any:
        """The type of a logical struct tag, or None where no candidate exists."""
        if tag in ELEMENTS:
            array = self.find_member(ELEMENTS[tag])
            return None if array is None else array.type.strip_typedefs().target().strip_typedefs()
        candidates, sign = STRUCTS.get(tag, ((tag,), ""))
        for candidate in candidates:
            tagged = self.find_type(f"struct {candidate}")
            struct = tagged if tagged is not None else self._without_tag(candidate)
            if struct is not None and (not sign or find_path(struct, sign) is not None):
                return struct
        return None

    def _without_tag(self, name: str) -> Any:
        """A struct that has no tag but a typedef of that name, or None."""
        named = self.find_type(name)
        stripped = None if named is None else named.strip_typedefs()
        return stripped if stripped is not None and is_struct(stripped) else None

    def struct(self, tag: str) -> Any:
        """The type of a logical struct tag; raises MissingDebugInfo."""
        known = self.find_struct(tag)
        if known is None:
            raise MissingDebugInfo(f"struct {tag}", self._struct_names(tag))
        return known

    @staticmethod
    def _struct_names(tag: str) -> list[str]:
        """What was looked for where a struct is missing."""
        if tag in ELEMENTS:
            return [f"the elements of {ELEMENTS[tag]}"]
        candidates, sign = STRUCTS.get(tag, ((), ""))
        return [f"struct {name} with a member {sign}" for name in candidates]

    def size(self, tag: str) -> int:
        """sizeof(struct TAG) in bytes; raises MissingDebugInfo."""
        return int(self.struct(tag).sizeof)

    def find_member(self, name: str) -> Member | None:
        """The member of a logical name `STRUCT.MEMBER`, or None; raises MissingDebugInfo for a missing struct."""
        if name not in self._members:
            tag, _, plain = name.partition(".")
            candidates = (find_path(self.struct(tag), path) for path in MEMBERS.get(name, (plain,)))
            chosen = next((member for member in candidates if member is not None), None)
            if chosen is not None and name in MEMBERS:
                self.chosen[name] = chosen.path
            self._members[name] = chosen
        return self._members[name]

    def member(self, name: str) -> Member:
        """The member of a logical name `STRUCT.MEMBER`; raises MissingDebugInfo."""
        known = self.find_member(name)
        if known is None:
            tag, _, plain = name.partition(".")
            raise MissingDebugInfo(f"member {name}", [f"{tag}.{path}" for path in MEMBERS.get(name, (plain,))])
        return known

    def resolve_all(self) -> None:
        """Look for every row of the table, so that `chosen` has all that this kernel has."""
        for name in MEMBERS:
            try:
                self.find_member(name)
            except MissingDebugInfo:
                continue  # the kernel has no such struct

    def offset(self, name: str) -> int:
        """The byte offset of a logical member; raises MissingDebugInfo."""
        return self.member(name).offset

    def number(self, name: str) -> Member:
        """A logical member that is a number or a pointer, or a struct of one; raises MissingDebugInfo for others."""
        member = self.member(name)
        number = find_number(member)
        if number is None:
            raise MissingDebugInfo(f"member {name} that is a number", [str(member.type)])
        return number

    def pointer(self, name: str) -> Member:
        """A logical member that is as large as a pointer; raises MissingDebugInfo."""
        member = self.number(name)
        if member.size != POINTER_SIZE or member.bit_size:
            raise MissingDebugInfo(f"member {name} that is a pointer", [str(member.type)])
        return member

    def unpacker(self, tag: str, members: Iterable[str], instead: Mapping[str, int] | None = None) -> Unpacker:
        """An Unpacker for members of one struct, given without its tag; raises MissingDebugInfo.

        `instead` are values for members that may be absent.
        """
        names, absent = list(members), set(self.absent(tag, instead or ()))
        made = Unpacker([self.number(f"{tag}.{name}") for name in names if name not in absent], self.size(tag))
        if instead and absent:
            made.insert([(index, instead[name]) for index, name in enumerate(names) if name in absent])
        return made

    def absent(self, tag: str, members: Iterable[str]) -> list[str]:
        """Those of some members of a struct that this kernel's types lack; raises MissingDebugInfo for the struct."""
        return [name for name in members if self.find_member(f"{tag}.{name}") is None]

    def enumerators(self, tag: str) -> dict[str, int]:
        """The constants of `enum TAG`; empty where the kernel has no such enum."""
        enum = self.find_type(f"enum {tag}")
        return {} if enum is None else {field.name: int(field.enumval) for field in enum.fields()}
