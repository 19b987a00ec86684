"""kwalk: the elements of a list, tree or array of the kernel, and where it does not hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import gdb

from gdb_kdump import walks
from gdb_kdump.commands.arguments import Arguments, Option, address, number
from gdb_kdump.commands.base import Command
from gdb_kdump.debuginfo.objects import read_object, to_json
from gdb_kdump.errors import MissingDebugInfo, Unreadable, UsageError
from gdb_kdump.kernel.lib.containers import KINDS, walk_container
from gdb_kdump.layout.members import Member, find_path
from gdb_kdump.layout.unpacker import Unpacker
from gdb_kdump.memory import Memory
from gdb_kdump.records.elements import Break, Element
from gdb_kdump.session import Session
from gdb_kdump.text import hex16
from gdb_kdump.walks import Gaps, walk


@dataclass(frozen=True)
class Walked:
    """What a walk came by; `offset` is where in each object its node is, `members` those that are shown of it."""

    kind: str
    head: int
    elements: tuple[Element, ...]
    breaks: tuple[Break, ...]
    ended: str
    offset: int
    members: tuple[Member, ...]
    memory: Memory
    only_count: bool
    in_hex: bool

    def address(self, element: Element) -> int | None:
        """The address of the object, None where an entry holds a number."""
        return None if element.value is not None else (element.addr - self.offset) & (1 << 64) - 1

    def values(self, addr: int) -> Iterator[tuple[str, Any]]:
        """The shown members of the object at an address, as JSON has them."""
        for member in self.members:
            try:
                yield member.path, _value(self.memory, member, addr + member.offset)
            except Unreadable as error:
                yield member.path, {"unreadable": error.why.name}


def _value(memory: Memory, member: Member, addr: int) -> Any:
    """What a member at an address holds, as JSON has it; raises Unreadable."""
    if member.bit_size:
        bits = Unpacker([replace(member, offset=0)], member.size)
        return bits.unpack_from(memory.read(addr, member.size))[0]
    return to_json(read_object(memory, member.type, addr))


class Kwalk(Command[Walked]):
    name = "kwalk"
    operands = "KIND HEAD"
    summary = f"""Walk a list, tree or array of the kernel, and say where it does not hold.
KIND and what HEAD, a GDB expression or hex digits without 0x, is the address of:
{chr(10).join(f"  {kind:<13}{tag}" for kind, (_, tag) in KINDS.items())}
`kwalk list &init_task.tasks -o task_struct.tasks -s task_struct.pid,comm` names every process."""
    options = (
        Option("-o", "where in each object its node is; its address is then the object's", "STRUCT.MEMBER"),
        Option("-s", "what to show of each object", "STRUCT.MEMBER[,MEMBER]"),
        Option("-r", "from the last element to the first"),
        Option("-c", "only how many there are"),
        Option("-x", "numbers in hex"),
    )
    gap_words = "problem"

    def read(self, session: Session, arguments: Arguments, gaps: Gaps) -> Walked:
        if len(arguments.operands) < 2:
            raise UsageError(f"name a kind and its head: kwalk KIND HEAD; kinds are {', '.join(KINDS)}")
        kind, head = arguments.operands[0], address(" ".join(arguments.operands[1:]))
        offset, members = _offset(session, arguments), _members(session, arguments)
        elements, breaks = list[Element](), list[Break]()
        with walk(f"the {kind}", gaps, where=lambda element: element.addr) as steps:
            for step in steps(walk_container(session, kind, head, arguments.has("-r"))):
                if isinstance(step, Break):
                    breaks.append(step)
                    gaps.note(str(step))
                else:
                    elements.append(step)
        return Walked(
            kind,
            head,
            tuple(elements),
            tuple(breaks),
            steps.ended,
            offset,
            members,
            session.memory,
            arguments.has("-c"),
            arguments.has("-x"),
        )

    def text(self, result: Walked) -> Iterator[str]:
        if result.only_count:
            yield f"{len(result.elements)} elements"
            return
        for element in walks.shown(result.elements):
            addr = result.address(element)
            place = f"[{_index(element, result.in_hex)}] " if element.first is not None else ""
            if addr is None:
                yield f"{place}value {element.value}"
            else:
                shown = (f"{name} = {_plain(value, result.in_hex)}" for name, value in result.values(addr))
                yield "  ".join((f"{place}{hex16(addr)}", *shown))

    def json(self, result: Walked) -> Any:
        problem = str(result.breaks[0].sentence) if result.breaks else result.ended
        last_good = result.breaks[0].last_good if result.breaks else _last(result)
        return {
            "kind": result.kind,
            "head": hex16(result.head),
            "count": len(result.elements),
            "nodes": [] if result.only_count else [_node(result, each) for each in walks.shown(result.elements)],
            "complete": not problem,
            "problem": problem or None,
            "last_good": hex16(last_good) if problem and last_good is not None else None,
        }

    def complete(self, text: str, word: str | None) -> Any:
        """Complete the kind, then an expression."""
        if len(text.split()) <= 1 and not text.endswith(" ") and not text.startswith("-"):
            return [kind for kind in KINDS if kind.startswith(word or "")]
        return super().complete(text, word)


def _last(result: Walked) -> int | None:
    return result.elements[-1].addr if result.elements else None


def _index(element: Element, in_hex: bool) -> str:
    if element.first != element.last:
        return f"{element.first:#x}-{element.last:#x}"
    return f"{element.first:#x}" if in_hex else str(element.first)


def _plain(value: Any, in_hex: bool) -> str:
    if in_hex and isinstance(value, int) and not isinstance(value, bool):
        return hex(value)
    return value if isinstance(value, str) and value.startswith("0x") else json.dumps(value)


def _node(result: Walked, element: Element) -> dict[str, Any]:
    addr = result.address(element)
    node: dict[str, Any] = {"address": None if addr is None else hex16(addr)}
    if element.first is not None:
        node |= {"first": element.first, "last": element.last}
    if element.value is not None:
        node["value"] = element.value
    if result.members and addr is not None:
        node["members"] = dict(result.values(addr))
    return node


def _offset(session: Session, arguments: Arguments) -> int:
    text = arguments.options.get("-o", "")
    if not text or text[0].isdigit():
        return number(text or "0", "-o takes STRUCT.MEMBER or a number of bytes")
    tag, _, path = text.removeprefix("struct ").partition(".")
    return _member(session, tag, path, "-o").offset


def _members(session: Session, arguments: Arguments) -> tuple[Member, ...]:
    text = arguments.options.get("-s")
    if text is None:
        return ()
    tag, _, paths = text.removeprefix("struct ").partition(".")
    return tuple(_member(session, tag, path, "-s") for path in paths.split(","))


def _member(session: Session, tag: str, path: str, option: str) -> Member:
    if not path:
        raise UsageError(f"{option} takes STRUCT.MEMBER, as in task_struct.tasks")
    struct: gdb.Type = session.layout.struct(tag)
    member = find_path(struct, path)
    if member is None:
        raise MissingDebugInfo(f"member {path} in {struct}")
    return member
