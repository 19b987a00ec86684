"""What a user types after a command: options in crash's letters or GNU's words, and raw GDB expressions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import gdb

from gdb_kdump.debuginfo.gdb_settings import as_user
from gdb_kdump.debuginfo.objects import address_of
from gdb_kdump.errors import UsageError

# Hex digits, with 0x whatever GDB's language may have instead; without it, as crash users type an address, 16 of them,
# or at least 8 with a letter among them.
_BARE_ADDRESS = re.compile(r"0[xX][0-9a-fA-F]{1,16}|[0-9a-fA-F]{16}|(?=[0-9]*[a-fA-F])[0-9a-fA-F]{8,15}")
_CAST = re.compile(r"\(.*\*\s*\)$")


@dataclass(frozen=True)
class Option:
    """An option by its name with dashes; `metavar` names its value, None where it takes none."""

    name: str
    help: str
    metavar: str | None = None


@dataclass
class Arguments:
    """The options given, each with its value or "", and the operands: words and raw expressions."""

    options: dict[str, str] = field(default_factory=dict)
    operands: list[str] = field(default_factory=list)

    def has(self, name: str) -> bool:
        return name in self.options


def parse(text: str, options: Sequence[Option]) -> Arguments:
    """Take the options out of a command line, wherever they stand; `--` ends them.  Raises UsageError."""
    known = {option.name: option for option in options}
    arguments = Arguments()
    words = _words(text)
    while words:
        word = words.pop(0)
        if word == "--":
            arguments.operands += words
            break
        name, equals, value = word.partition("=")
        option = known.get(name)
        if option is None:
            if re.match(r"--?[a-zA-Z]", word):
                raise UsageError(f"no option {word}; there are: {', '.join(known)}")
            arguments.operands.append(word)
        elif option.metavar is None:
            arguments.options[name] = ""
        elif not equals and not words:
            raise UsageError(f"option {name} needs a value: {name} {option.metavar}")
        else:
            arguments.options[name] = value if equals else words.pop(0)
    return arguments


def _words(text: str) -> list[str]:
    """Split at white space, but not inside brackets or quotes, nor between a cast and what it casts."""
    words: list[str] = []
    depth, quote, word = 0, "", ""
    for char in text + " ":
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "([":
            depth += 1
        elif char in ")]":
            depth -= 1
        elif char.isspace() and depth <= 0:
            if word:
                words.append(word)
            word = ""
            continue
        word += char
    if word.strip():
        words.append(word.strip())  # an unclosed bracket: GDB will say so better than we could
    joined: list[str] = []
    for piece in words:
        if joined and _CAST.fullmatch(joined[-1]):
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def address(expression: str) -> int:
    """The address that a GDB expression stands for: a pointer's value, a struct's own address, an integer, plain hex.

    Raises UsageError.
    """
    if _BARE_ADDRESS.fullmatch(expression):
        return int(expression, 16)
    try:
        with as_user():
            value = gdb.parse_and_eval(expression)
        addr = address_of(value)
    except gdb.error as error:
        raise UsageError(f"cannot evaluate {expression!r}: {error}") from error
    if addr is None:
        raise UsageError(f"{expression} has no address: name a pointer to it")
    return addr


def number(text: str, what: str) -> int:
    """A decimal or 0x number; raises UsageError that says what was wanted."""
    try:
        return int(text, 0)
    except ValueError:
        raise UsageError(f"{text!r} is no number: {what}") from None
