"""Names of the bits of a word, from the kernel's own enums."""

from __future__ import annotations

from collections.abc import Mapping


def bits_set(word: int, names: Mapping[int, str]) -> tuple[str, ...]:
    """The names of a word's bits that are set, the lowest first; a bit's number where it has no name."""
    return tuple(names.get(bit, f"bit {bit}") for bit in range(word.bit_length()) if word >> bit & 1)


def by_number(enumerators: Mapping[str, int], prefix: str) -> dict[int, str]:
    """The names of bits by their numbers, without what all begin with."""
    return {number: name[len(prefix) :] for name, number in enumerators.items() if name.startswith(prefix)}


def by_mask(enumerators: Mapping[str, int], prefix: str) -> dict[int, str]:
    """The same where the enum has masks of one bit."""
    masks = {name: number for name, number in enumerators.items() if number and not number & (number - 1)}
    return by_number({name: number.bit_length() - 1 for name, number in masks.items()}, prefix)
