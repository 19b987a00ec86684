"""Words that both rules and commands put numbers and foreign text into."""

from __future__ import annotations

_MAX_ERRNO = 4095  # include/linux/err.h

LOWEST_KERNEL_ADDRESS = 0xFF << 56  # the kernel's half of the address space with 5-level paging


def hex16(addr: int) -> str:
    """An address as every output of ours has it: 0x and 16 digits."""
    return f"0x{addr:016x}"


def is_kernel_address(addr: int) -> bool:
    """Whether an address lies in the kernel's half, of 4- or 5-level paging, and is no error pointer."""
    return addr >> 56 == 0xFF and addr < (1 << 64) - _MAX_ERRNO


def escape(text: bytes | str) -> str:
    """Text from a dump with everything that a terminal would obey made visible.

    Control, format (bidi) and unassigned characters and invalid UTF-8 become backslash escapes.
    """
    decoded = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
    # str.isprintable() is exactly that: no control, format, unassigned or separator character but the space.
    if decoded.isprintable():
        return decoded
    return "".join(char if char.isprintable() else _escaped(char) for char in decoded)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii") if ord(char) < 0x10FFFF else "?"
