"""How a C object is shown: GDB's own formatting, member by member, so that a hole costs only what lies in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gdb

from gdb_kdump.debuginfo.objects import Object, fields
from gdb_kdump.layout.members import Member
from gdb_kdump.text import hex16

_STRUCTS = (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION)


def object_text(thing: Object, style: dict[str, Any], follow: bool = False) -> Iterator[str]:
    """The lines of an object; `style` goes to gdb.Value.format_string, `follow` shows what pointers point to."""
    style = {"pretty_structs": True, **style}
    struct = thing.type.strip_typedefs()
    if struct.code not in _STRUCTS:
        yield from thing.value.format_string(**style).splitlines()
        return
    yield f"{thing.type} @ {hex16(thing.addr)} {{"
    for name, value, member in _members(struct, thing.value, 0):
        yield from member_text(thing, name, value, member, style)
        if follow:
            yield from _target(value, style)
    yield "}"


def member_text(thing: Object, name: str, value: gdb.Value, member: Member, style: dict[str, Any]) -> Iterator[str]:
    """The lines of one member."""
    why = thing.hole_in(member.offset, member.size)
    text = f"<unreadable: {why.name}>" if why is not None else value.format_string(**style)
    first, *rest = text.splitlines() or [""]
    yield f"  {name} = {first}"
    yield from ("  " + line for line in rest)


def _members(struct: gdb.Type, value: gdb.Value, start: int) -> Iterator[tuple[str, gdb.Value, Member]]:
    """(name, value, place) of every member, those of anonymous structs and unions lifted into their parent."""
    for field in fields(struct):
        offset, inner = start + field.bitpos // 8, field.type.strip_typedefs()
        if field.name:
            yield field.name, value[field], Member(field.name, offset, field.type.sizeof, field.type)
        elif inner.code in _STRUCTS:
            yield from _members(inner, value[field], offset)


def _target(value: gdb.Value, style: dict[str, Any]) -> Iterator[str]:
    """The lines of what a pointer member points to."""
    stripped = value.type.strip_typedefs()
    if stripped.code != gdb.TYPE_CODE_PTR or not int(value):
        return
    target = stripped.target().strip_typedefs()
    if target.code not in _STRUCTS or not target.sizeof:
        return
    try:
        text = value.dereference().format_string(**style)
    except gdb.MemoryError as error:
        text = f"<{error}>"
    yield from (f"    {'->' if not number else '  '} {line}" for number, line in enumerate(text.splitlines()))
