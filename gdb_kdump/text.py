"""Words that both rules and commands put numbers and foreign text into."""

from __future__ import annotations

import re
from collections.abc import Sequence

_MAX_ERRNO = 4095  # include/linux/err.h

LOWEST_KERNEL_ADDRESS = 0xFF << 56  # the kernel's half of the address space with 5-level paging


# Printable by category, but with nothing to see: Unicode's Default_Ignorable_Code_Point, and the blank of Braille.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)

# What a build of the kernel gives to a release or a symbol: no space, no slash, no leading dash.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+~$-]*")


def hex16(addr: int) -> str:
    """An address as every output of ours has it: 0x and 16 digits."""
    return f"0x{addr:016x}"


def is_kernel_address(addr: int) -> bool:
    """Whether an address lies in the kernel's half, of 4- or 5-level paging, and is no error pointer."""
    return addr >> 56 == 0xFF and addr < (1 << 64) - _MAX_ERRNO


def some(sentences: Sequence[str], most: int = 10) -> list[str]:
    """The sentences, each once, or where they are too many the first ones and how many more there are."""
    unique = list(dict.fromkeys(sentences))
    return unique if len(unique) <= most else [*unique[:most], f"and {len(unique) - most} more of this kind"]


def escape(text: bytes | str) -> str:
    """Text from a dump with everything that a terminal would obey, and everything that hides in it, made visible.

    Control, format (bidi, zero width), unassigned and invisible characters and invalid UTF-8 become backslash escapes.
    """
    decoded = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
    # str.isprintable() is most of that: no control, format, unassigned or separator character but the space.
    if decoded.isprintable() and (decoded.isascii() or not _INVISIBLE.search(decoded)):
        return decoded
    return "".join(char if char.isprintable() and not _INVISIBLE.match(char) else _escaped(char) for char in decoded)


def is_plain_name(text: str) -> bool:
    """Whether a name from a dump is one that may go where GDB, or a file name, takes it as it stands."""
    return _PLAIN_NAME.fullmatch(text) is not None


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii") if ord(char) < 0x10FFFF else "?"
