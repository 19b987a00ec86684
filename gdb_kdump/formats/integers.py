"""Many integers at once, as files, the wire and the kernel's arrays hold them: little-endian."""

from __future__ import annotations

import sys
from array import array


def integers(code: str, data: bytes) -> array[int]:
    """The integers (of a kind that `code` names to array and struct) that stand one after the other in some bytes."""
    numbers = array(code)
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def in_bytes(numbers: array[int]) -> bytes:
    """The bytes that integers() makes the same numbers of."""
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()
