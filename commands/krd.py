"""krd: words of memory, each with what it is the address of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gdb_kdump import walks
from gdb_kdump.commands.arguments import Arguments, Option, address, number
from gdb_kdump.commands.base import Command
from gdb_kdump.commands.kwhat import PHYSICAL, located
from gdb_kdump.errors import Unreadable, UsageError
from gdb_kdump.kernel.what.places import Places
from gdb_kdump.kernel.what.words import WORD, Word, words
from gdb_kdump.records.owners import Kind
from gdb_kdump.session import Session
from gdb_kdump.text import hex16
from gdb_kdump.walks import Gaps, walk

_COUNT = 16
_OPERATORS = tuple("+-*/%&|^<>=!(,.")


@dataclass(frozen=True)
class Words:
    """Words from `addr` on, as far as the walk went."""

    addr: int
    words: tuple[Word, ...]


class Krd(Command[Words]):
    name = "krd"
    operands = "ADDRESS [COUNT]"
    summary = f"""Show words of memory: in hex, as characters, and what each is the address of, as kwhat names it.
ADDRESS is a GDB expression, or hex digits without 0x; COUNT words of {WORD} bytes are shown, {_COUNT} without it."""
    options = (
        Option("-s", "name only what is the address of a symbol"),
        Option("-S", "name all addresses, as it does without this (crash's letter)"),
        PHYSICAL,
    )

    def read(self, session: Session, arguments: Arguments, gaps: Gaps) -> Words:
        expression, count = _operands(arguments.operands)
        addr = located(session, address(expression), arguments)
        place = session.once(Places).of(addr)
        if place.kind in (Kind.USER, Kind.NON_CANONICAL):
            raise UsageError(place.links[0].text)
        found: list[Word] = []
        with walk("the words", gaps, lambda word: word.addr) as steps:
            for word in steps(words(session, addr, count, arguments.has("-s"), gaps)):
                found.append(word)
        if found and all(word.value is None for word in found) and found[0].why is not None:
            raise Unreadable(addr, found[0].why)
        return Words(addr, tuple(found))

    def text(self, result: Words) -> Iterator[str]:
        for word in walks.shown(result.words):
            if word.value is None:
                yield f"{hex16(word.addr)}:  <unreadable: {word.why.name if word.why else '?'}>"
            else:
                named = word.what.short if word.what is not None else ""
                yield f"{hex16(word.addr)}:  {word.value:016x}  {_characters(word.value)}  {named}".rstrip()

    def json(self, result: Words) -> Any:
        return {
            "address": hex16(result.addr),
            "count": len(result.words),
            "words": [_word_json(word) for word in walks.shown(result.words)],
        }


def _operands(operands: list[str]) -> tuple[str, int]:
    """The expression and the count; raises UsageError."""
    if not operands:
        raise UsageError("name an address: krd ADDRESS [COUNT]")
    if len(operands) == 1 or operands[-2].endswith(_OPERATORS):
        return " ".join(operands), _COUNT
    count = number(operands[-1], "krd ADDRESS [COUNT]")
    if count <= 0:
        raise UsageError(f"{count} words are none: krd ADDRESS [COUNT]")
    return " ".join(operands[:-1]), count


def _characters(value: int) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in value.to_bytes(WORD, "little"))


def _word_json(word: Word) -> dict[str, Any]:
    row: dict[str, Any] = {"address": hex16(word.addr), "value": None, "ascii": None, "kind": None, "text": None}
    if word.value is None:
        return row | {"unreadable": word.why.name if word.why else None}
    row |= {"value": hex16(word.value), "ascii": _characters(word.value)}
    return row if word.what is None else row | {"kind": word.what.kind.value, "text": word.what.text}
