"""Members of structs as numbers, decoded from bytes."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Union

from gdb_kdump.formats.integers import integers
from gdb_kdump.layout.members import Member

Column = Union["array[int]", list[int]]
"""One member of many structs: an array where it can be, as that makes no object of each number."""


class Unpacker:
    """Some members of a struct, decoded from its bytes in one pass.

    `unpack_from(buffer, offset)` returns the members as ints in the order asked for.  `size` is that of the whole
    struct, `span` how many of its first bytes the members need: the rest may be missing, or not even exist, as the end
    of a task_struct (arch_task_struct_size).  `pieces` are the offsets and sizes of what is decoded, for a caller
    that collects those of many structs: `columns` takes them.
    """

    def __init__(self, members: Sequence[Member], size: int) -> None:
        self.size = size
        runs = _merge(members)
        self.span = runs[-1].end if runs else 0
        packed = struct.Struct(_format(runs))
        index = [next(i for i, run in enumerate(runs) if run.offset <= m.offset < run.end) for m in members]
        shapes = [_shape(member, runs[i]) for member, i in zip(members, index)]
        plain = index == list(range(len(members))) and not any(shapes)
        self.unpack_from: Callable[..., tuple[int, ...]] = packed.unpack_from
        if not plain:
            take = _reordered(index, shapes)
            self.unpack_from = lambda buffer, offset=0: take(packed.unpack_from(buffer, offset))
        self.pieces = [(run.offset, run.end - run.offset) for run in runs]
        self._codes = [_code(run) for run in runs]
        self._members = list(zip(index, shapes))

    def insert(self, values: Sequence[tuple[int, int]]) -> None:
        """Have `unpack_from` give these (index, value), in ascending order, among the others: for absent members."""
        unpack = self.unpack_from

        def filled(buffer: bytes, offset: int = 0) -> tuple[int, ...]:
            numbers = list(unpack(buffer, offset))
            for index, value in values:
                numbers.insert(index, value)
            return tuple(numbers)

        self.unpack_from = filled

    def columns(self, buffer: bytes) -> list[Column]:
        """Each member of many structs, in the order asked for.

        `buffer` has the first piece of all structs, the second of all, ….
        """
        count, start = len(buffer) // sum(size for _, size in self.pieces), 0
        columns: list[Any] = []
        for (_, size), code in zip(self.pieces, self._codes):
            end = start + count * size
            if size in _CODES:
                columns.append(integers(code, buffer[start:end]))
            else:
                columns.append([buffer[first : first + size] for first in range(start, end, size)])
            start = end
        return [
            columns[run] if shape is None else [_extract(value, shape) for value in columns[run]]
            for run, shape in self._members
        ]


@dataclass
class _Run:
    """Bytes that are decoded as one integer: a member, or members that share bytes (unions, bitfields)."""

    offset: int
    end: int
    signed: bool


_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}


def _merge(members: Sequence[Member]) -> list[_Run]:
    runs: list[_Run] = []
    for member in sorted(members, key=lambda m: m.offset):
        signed = not member.bit_size and _is_signed(member.type)
        end = member.offset + member.size
        if runs and member.offset < runs[-1].end:
            last = runs[-1]
            last.signed = last.signed and signed and (last.offset, last.end) == (member.offset, end)
            last.end = max(last.end, end)
        else:
            runs.append(_Run(member.offset, end, signed))
    return runs


def _format(runs: Sequence[_Run]) -> str:
    text, end = "<", 0
    for run in runs:
        text += f"{run.offset - end}x{_code(run)}"
        end = run.end
    return text


def _code(run: _Run) -> str:
    size = run.end - run.offset
    code = _CODES.get(size, f"{size}s")
    return code.lower() if run.signed else code


# How to take a member out of its run: right shift, mask, sign bit (0 where unsigned).
_Shape = tuple[int, int, int]


def _shape(member: Member, run: _Run) -> _Shape | None:
    whole = (member.offset, member.offset + member.size) == (run.offset, run.end)
    if whole and not member.bit_size and member.size in _CODES and run.signed == _is_signed(member.type):
        return None
    bits = member.bit_size or member.size * 8
    sign = 1 << (bits - 1) if _is_signed(member.type) else 0
    return (member.offset - run.offset) * 8 + member.bit_offset, (1 << bits) - 1, sign


def _is_signed(member_type: Any) -> bool:
    stripped = member_type.strip_typedefs()
    return bool(stripped.is_scalar and stripped.is_signed)


def _reordered(index: Sequence[int], shapes: Sequence[_Shape | None]) -> Callable[[Sequence[Any]], tuple[int, ...]]:
    in_order: Callable[[Sequence[Any]], tuple[int, ...]]
    in_order = itemgetter(*index) if len(index) > 1 else lambda values: (values[index[0]],)
    parts = [(at, shape) for at, shape in enumerate(shapes) if shape]
    if not parts:
        return in_order

    def take(values: Sequence[Any]) -> tuple[int, ...]:
        numbers = list(in_order(values))
        for at, shape in parts:
            numbers[at] = _extract(numbers[at], shape)
        return tuple(numbers)

    return take


def _extract(run: int | bytes, shape: _Shape) -> int:
    shift, mask, sign = shape
    if isinstance(run, bytes):
        run = int.from_bytes(run, "little")
    value = (run >> shift) & mask
    return (value ^ sign) - sign if sign else value
