"""kstruct: any structure, as a type or at an address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gdb

from gdb_kdump.commands.arguments import Arguments, Option, address, number
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.objects import member_text, object_text
from gdb_kdump.errors import MissingDebugInfo, UsageError
from gdb_kdump.members import Member, find_path
from gdb_kdump.objects import Object, fields, read_object, to_json
from gdb_kdump.session import Session
from gdb_kdump.text import hex16

_TAG = re.compile(r"(?:(struct|union|enum)\s+)?(\w+)((?:\.[\w.]+(?:,[\w.]+)*)?)$")


@dataclass(frozen=True)
class Shown:
    """A type, the members asked for (all when empty), and the objects at the addresses asked for (none: the type)."""

    type: gdb.Type
    members: tuple[Member, ...]
    objects: tuple[Object, ...]
    options: Arguments


class Kstruct(Command[Shown]):
    name = "kstruct"
    operands = "TYPE[.MEMBER[,MEMBER]...] [EXPR]"
    summary = """Print a structure's type, or the object of that type at the address EXPR.
TYPE is a struct or union tag or a typedef.  EXPR is a GDB expression, or hex digits without 0x.
`kstruct sk_buff.len,data_len 0xffff888003a41200` prints two members of one object."""
    options = (
        Option("-o", "offsets of the members; with EXPR, their addresses"),
        Option("-x", "integers in hex"),
        Option("-d", "integers in decimal"),
        Option("-r", "the object's raw bytes"),
        Option("-p", "what the pointer members point to, one level deep"),
        Option("-c", "that many objects, as in an array", "N"),
        Option("-l", "EXPR is the address of this member of the object", "MEMBER"),
    )

    def read(self, session: Session, arguments: Arguments) -> Shown:
        tag, expression = _operands(arguments.operands)
        wanted, names = _type(session, tag)
        members = tuple(_member(wanted, name) for name in names)
        if expression is None:
            return Shown(wanted, members, (), arguments)
        start = address(expression)
        if arguments.has("-l"):
            start -= _member(wanted, arguments.options["-l"].rpartition(".")[2]).offset
        count = number(arguments.options["-c"], "-c takes a count") if arguments.has("-c") else 1
        if count < 1:
            raise UsageError("-c takes a count of at least 1")
        addresses = [(start + index * wanted.sizeof) & (1 << 64) - 1 for index in range(count)]
        objects = tuple(read_object(session.memory, wanted, addr) for addr in addresses)
        return Shown(wanted, members, objects, arguments)

    def text(self, result: Shown) -> Iterator[str]:
        if not result.objects:
            return _type_text(result)
        return (line for thing in result.objects for line in _object_text(result, thing))

    def json(self, result: Shown) -> Any:
        documents = [_json(result, thing) for thing in result.objects or (None,)]
        return documents[0] if len(documents) == 1 else documents

    def complete(self, text: str, word: str | None) -> Any:
        """Complete a structure's tag first, then an expression."""
        if len(text.split()) <= 1 and not text.endswith(" ") and not text.startswith("-"):
            return gdb.COMPLETE_SYMBOL
        return super().complete(text, word)


def _operands(words: list[str]) -> tuple[str, str | None]:
    if words and words[0] in ("struct", "union", "enum") and len(words) > 1:
        words = [f"{words[0]} {words[1]}", *words[2:]]
    if not words:
        raise UsageError("name a type: kstruct TYPE[.MEMBER] [EXPR]")
    return words[0], " ".join(words[1:]) or None


def _type(session: Session, text: str) -> tuple[gdb.Type, list[str]]:
    found = _TAG.match(text)
    if found is None:
        raise UsageError(f"{text!r} is no TYPE or TYPE.MEMBER")
    kind, tag, members = found.groups()
    candidates = [f"{kind} {tag}"] if kind else [f"struct {tag}", f"union {tag}", tag]
    for candidate in candidates:
        wanted = session.debuginfo.find_type(candidate)
        if wanted is not None:
            return wanted, [name for name in members[1:].split(",") if name]
    raise MissingDebugInfo(f"type {text}", candidates)


def _member(struct: gdb.Type, name: str) -> Member:
    found = find_path(struct, name)
    if found is None:
        raise MissingDebugInfo(f"member {name} in {struct}")
    return found


def _json(shown: Shown, thing: Object | None) -> dict[str, Any]:
    value: Any = None
    if thing is not None:
        value = to_json(thing)
        if shown.members:
            value = {member.path: _dig(value, member.path) for member in shown.members}
    document = {
        "type": str(shown.type),
        "address": hex16(thing.addr) if thing else None,
        "size": shown.type.sizeof,
        "value": value,
    }
    if thing is None or shown.options.has("-o"):
        document["members"] = [
            {"offset": offset, "type": type_text, "name": name} for offset, type_text, name in _layout(shown)
        ]
    return document


def _dig(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value[name]
    return value


def _layout(shown: Shown) -> Iterator[tuple[int, str, str]]:
    """(offset in bytes, declaration, name) of the members shown."""
    if shown.members:
        for member in shown.members:
            yield member.offset, str(member.type), member.path
        return
    yield from _fields(shown.type.strip_typedefs(), 0)


def _fields(struct: gdb.Type, start: int) -> Iterator[tuple[int, str, str]]:
    for field in fields(struct):
        offset = start + field.bitpos // 8
        if not field.name:
            yield from _fields(field.type.strip_typedefs(), offset)
        else:
            bits = f" : {field.bitsize}" if field.bitsize else ""
            yield offset, _declaration(field.type) + bits, field.name


def _declaration(declared: gdb.Type) -> str:
    # An anonymous struct prints as its whole body: say only that it is one.
    text = str(declared)
    return text.split("{", 1)[0] + "{...}" if "{" in text else text


def _type_text(shown: Shown) -> Iterator[str]:
    if not shown.options.has("-o") and not shown.members:
        yield from (
            gdb.execute(f"ptype {shown.type.strip_typedefs()}", to_string=True).removeprefix("type = ").splitlines()
        )
        yield f"SIZE: {shown.type.sizeof}"
        return
    yield from _offsets(shown, None)


def _offsets(shown: Shown, thing: Object | None) -> Iterator[str]:
    rows = list(_layout(shown))
    yield f"{_declaration(shown.type)} {{"
    for offset, declaration, name in rows:
        where = f"[{offset}]" if thing is None else f"[{hex16(thing.addr + offset)}]"
        yield f"  {where:>6} {declaration} {name};"
    yield "}"
    yield f"SIZE: {shown.type.sizeof}"


def _object_text(shown: Shown, thing: Object) -> Iterator[str]:
    if shown.options.has("-o"):
        yield from _offsets(shown, thing)
        return
    if shown.options.has("-r"):
        yield from _raw(thing)
        return
    style: dict[str, Any] = {"pretty_structs": True}
    if shown.options.has("-x"):
        style["format"] = "x"
    elif shown.options.has("-d"):
        style["format"] = "d"
    if shown.members:
        for member in shown.members:
            yield from member_text(thing, member.path, _value(thing.value, member.path), member, style)
        return
    yield from object_text(thing, style, shown.options.has("-p"))


def _value(value: gdb.Value, path: str) -> gdb.Value:
    for name in path.split("."):
        value = value[name]
    return value


def _raw(thing: Object) -> Iterator[str]:
    for start in range(0, len(thing.data), 16):
        words = [thing.data[at : at + 8] for at in range(start, min(start + 16, len(thing.data)), 8)]
        cells = [
            "(unreadable)    " if thing.hole_in(start + 8 * index, len(word)) else word[::-1].hex()
            for index, word in enumerate(words)
        ]
        printable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in b"".join(words))
        yield f"{hex16(thing.addr + start)}:  {'  '.join(cells):34}  {printable}"
