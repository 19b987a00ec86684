"""kstruct: any structure, as a type or at an address."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import gdb

from gdb_kdump import walks
from gdb_kdump.commands.arguments import Arguments, Option, address, number
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.show.objects import member_text, object_text
from gdb_kdump.debuginfo.objects import Object, fields, read_object, to_json
from gdb_kdump.errors import MissingDebugInfo, Unreadable, UsageError
from gdb_kdump.layout.members import Member, find_path
from gdb_kdump.memory import Memory
from gdb_kdump.session import Session
from gdb_kdump.text import hex16
from gdb_kdump.walks import Gaps

T = TypeVar("T")

_TAG = re.compile(r"(?:(struct|union|enum)\s+)?(\w+)((?:\.[\w.]+(?:,[\w.]+)*)?)$")


@dataclass(frozen=True)
class Shown:
    """A type, the members asked for (all when empty), and the first of the objects asked for (None: the type).

    There are `count` objects in `memory`, one after the other, each read as it is shown; `gaps` says why not all were.
    """

    type: gdb.Type
    members: tuple[Member, ...]
    options: Arguments
    gaps: Gaps
    first: Object | None = None
    count: int = 0
    memory: Memory | None = None

    def objects(self) -> Iterator[Object]:
        """The objects, as far as the limit allows; raises Unreadable."""
        if self.first is None or self.memory is None:
            return
        yield self.first
        for index in range(1, min(self.count, walks.max_elements())):
            addr = self.first.addr + index * self.type.sizeof
            yield read_object(self.memory, self.type, addr & (1 << 64) - 1)


@dataclass(frozen=True)
class Cut:
    """Where an array of objects was cut short: the first address that is not shown, and the reason, in JSON, too."""

    addr: int
    reason: str
    value: dict[str, str]

    def json(self, type: gdb.Type) -> dict[str, Any]:
        """The document that stands in place of the objects."""
        return {"type": str(type), "address": hex16(self.addr), "size": type.sizeof, "value": self.value}


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

    def read(self, session: Session, arguments: Arguments, gaps: Gaps) -> Shown:
        tag, expression = _operands(arguments.operands)
        wanted, names = _type(session, tag)
        members = tuple(_member(wanted, name) for name in names)
        if expression is None:
            return Shown(wanted, members, arguments, gaps)
        start = address(expression)
        if arguments.has("-l"):
            start -= _member(wanted, arguments.options["-l"].rpartition(".")[2]).offset
        count = number(arguments.options["-c"], "-c takes a count") if arguments.has("-c") else 1
        if count < 1:
            raise UsageError("-c takes a count of at least 1")
        first = read_object(session.memory, wanted, start & (1 << 64) - 1)
        return Shown(wanted, members, arguments, gaps, first, count, session.memory)

    def text(self, result: Shown) -> Iterator[str]:
        return _type_text(result) if result.first is None else _objects_text(result)

    def json(self, result: Shown) -> Any:
        if result.count < 2:
            return _json(result, result.first)
        return [
            made.json(result.type) if isinstance(made, Cut) else made
            for made in _each(result, lambda thing: _json(result, thing))
        ]

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
    words = _TAG.match(text)
    if words is None:
        raise UsageError(f"{text!r} is no TYPE or TYPE.MEMBER")
    keyword, tag, members = words.groups()
    candidates = [f"{keyword} {tag}"] if keyword else [f"struct {tag}", f"union {tag}", tag]
    for candidate in candidates:
        wanted = session.debuginfo.find_type(candidate)
        if wanted is not None:
            return wanted, [name for name in members[1:].split(",") if name]
    raise MissingDebugInfo(f"type {text}", candidates)


def _each(shown: Shown, make: Callable[[Object], T]) -> Iterator[T | Cut]:
    """What `make` makes of each object, and a Cut where there are more."""
    last, addr, reason, why = None, shown.first.addr if shown.first else 0, "", None
    try:
        for thing in shown.objects():
            yield make(thing)
            last, addr = thing.addr, thing.addr + shown.type.sizeof
            if walks.is_interrupted():  # while that was written
                raise KeyboardInterrupt
        if shown.count > walks.max_elements():
            reason = walks.too_many("the objects")
    except Unreadable as error:
        reason, why = f"the objects: {error}", error.why
    except KeyboardInterrupt:
        reason = f"the objects: {walks.interrupt()}"
    if reason:
        reason += f" (last good: {hex16(last)})" if last is not None else ""
        yield Cut(addr & (1 << 64) - 1, reason, {"unreadable": why.name} if why else {"stopped": reason})


def _objects_text(shown: Shown) -> Iterator[str]:
    for made in _each(shown, lambda thing: list(_object_text(shown, thing))):
        if isinstance(made, Cut):
            shown.gaps.note(made.reason)
        else:
            yield from made


def _member(struct: gdb.Type, name: str) -> Member:
    member = find_path(struct, name)
    if member is None:
        raise MissingDebugInfo(f"member {name} in {struct}")
    return member


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
